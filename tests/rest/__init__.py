"""The administration's REST API, and what makes a deployment what a file says."""
