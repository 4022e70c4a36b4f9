"""The administration's REST API at /api/v1, for programs that have a token."""
