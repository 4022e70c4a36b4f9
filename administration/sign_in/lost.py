"""Lost second factors: someone else removes them, and the person sets up new ones."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator

from administration.sign_in import sessions


def remove_second_factors(user: Any) -> int:
    """Remove a person's second factors and recovery codes, end their sessions, and return how many were removed."""
    count, _ = Authenticator.objects.filter(user_id=user.pk).delete()
    sessions.end_all_of(user)
    return int(count)
