"""The administration's own tables."""

from __future__ import annotations

from administration.models.api_tokens import ApiToken, RestAnswer

__all__ = ["ApiToken", "RestAnswer"]
