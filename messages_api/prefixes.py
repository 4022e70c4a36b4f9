"""Endings of clients' base URLs, below which the API is served as well."""

from __future__ import annotations

PREFIXES = ("pydanticai/anthropic/", "anthropic/", "pydanticai/")
