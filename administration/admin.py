"""Registers the administration's own pages."""

from __future__ import annotations

from administration import people_admin

__all__ = ["people_admin"]
