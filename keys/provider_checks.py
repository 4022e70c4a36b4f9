"""Tests provider keys: a request that costs nothing shows whether the secret and the address work.

Only messages_api can call a provider, and it imports this app. So it registers its function here at start (`register`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from keys.models import CheckState, ProviderKey, ProviderKeyCheck

# The fields that a check tests. When one of them changes, a trigger deletes the earlier result.
PLACE = ("provider", "base_url", "secret_ciphertext", "region", "project")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of testing a provider key. `message` is short, printable, and contains no part of the secret."""

    state: CheckState
    http_status: int | None = None
    message: str = ""


# Tests provider keys, all at once, within a few seconds. A key without anything to test gets None as its outcome.
Try = Callable[[Sequence[ProviderKey]], list[Outcome | None]]
_registered: list[Try] = []


def register(trying: Try) -> None:
    """Set the function that tests provider keys."""
    _registered[:] = [trying]


def check(*provider_keys: ProviderKey) -> list[ProviderKeyCheck | None]:
    """Test these provider keys as they are in the database, and store the results.

    Returns the results in the order of the keys, with None for a key without anything to test. It takes a few seconds.
    Don't call it within a transaction: that would keep rows locked for as long.
    """
    if not provider_keys:
        return []
    assert _registered, "messages_api is not ready"
    saved = ProviderKey.objects.in_bulk([provider_key.pk for provider_key in provider_keys])
    tried = [saved[provider_key.pk] for provider_key in provider_keys]
    return [_keep(each, outcome) for each, outcome in zip(tried, _registered[0](tried), strict=True)]


@transaction.atomic
def _keep(tried: ProviderKey, outcome: Outcome | None) -> ProviderKeyCheck | None:
    """Store the result, unless the provider key has changed since the test began."""
    if outcome is None:
        return None
    found = ProviderKeyCheck(
        provider_key=tried,
        state=outcome.state,
        http_status=outcome.http_status,
        message=outcome.message,
        checked_at=timezone.now(),
    )
    same = ProviderKey.objects.select_for_update(no_key=True).filter(pk=tried.pk)
    if same.filter(**{field: getattr(tried, field) for field in PLACE}).first() is not None:
        ProviderKeyCheck.objects.bulk_create(
            [found],
            update_conflicts=True,
            unique_fields=["provider_key"],
            update_fields=["state", "http_status", "message", "checked_at"],
        )
    return found
