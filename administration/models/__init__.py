"""The administration's own tables."""

from __future__ import annotations

from administration.models.api_tokens import ApiToken, RestAnswer
from administration.models.grants import Grant
from administration.models.people import Person

__all__ = ["ApiToken", "Grant", "Person", "RestAnswer"]
