"""The administration's own tables."""

from __future__ import annotations

from administration.models.grants import Grant

__all__ = ["Grant"]
