"""The endpoints: thin DRF views."""
