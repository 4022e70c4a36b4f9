"""The pages of one virtual key, team or customer."""
