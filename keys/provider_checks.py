"""Whether provider keys work: their secret and address are tried with a request that costs nothing.

Only messages_api can call a provider, and it imports this app: it says how at start (`register`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from keys.models import CheckState, ProviderKey, ProviderKeyCheck

# What a check is about: where one of these changes, a trigger deletes what an earlier one found.
PLACE = ("provider", "base_url", "secret_ciphertext", "region", "project")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a provider makes of a provider key. `message` is short, printable, and has no part of the secret in it."""

    state: CheckState
    http_status: int | None = None
    message: str = ""


# Tries provider keys, all at once and for some seconds at most; None for one that there is nothing to try of.
Try = Callable[[Sequence[ProviderKey]], list[Outcome | None]]
_registered: list[Try] = []


def register(trying: Try) -> None:
    """Say how provider keys are tried."""
    _registered[:] = [trying]


def check(*provider_keys: ProviderKey) -> list[ProviderKeyCheck | None]:
    """Try these provider keys as they are in the database, and keep what is found; in their order, None where there is
    nothing to try. It takes some seconds at most, and must not be called within a transaction: rows would be locked
    for as long."""
    if not provider_keys:
        return []
    assert _registered, "messages_api is not ready"
    saved = ProviderKey.objects.in_bulk([provider_key.pk for provider_key in provider_keys])
    tried = [saved[provider_key.pk] for provider_key in provider_keys]
    return [_keep(each, outcome) for each, outcome in zip(tried, _registered[0](tried), strict=True)]


@transaction.atomic
def _keep(tried: ProviderKey, outcome: Outcome | None) -> ProviderKeyCheck | None:
    """Write down what was found, unless the provider key is another one by now."""
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
