"""Bytes to a provider and back: HTTP clients, and nothing about what the bytes mean."""
