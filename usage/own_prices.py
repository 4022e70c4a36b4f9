"""Adds and withdraws prices of the deployment's own. A price that applies is never changed: a newer one replaces it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from keys import provider_kinds
from keys.errors import Unusable, refused
from usage.models import Price

# A form may have been open for a while, so a time that is this much in the past counts as now.
GRACE = timedelta(days=1)


def start(given: datetime | None) -> datetime:
    """When a new price starts to apply: never before now. A time within the last day counts as now.

    Raises:
        Unusable: the time is more than a day ago.
    """
    now = timezone.now()
    if given is not None and given < now - GRACE:
        raise Unusable("A price can't start in the past: enter the current or a later time.", {"valid_from": []})
    return max(given or now, now)


def add(price: Price) -> None:
    """Save a new price.

    Raises:
        Unusable: it would start in the past, or a value is invalid.
    """
    price.valid_from = start(price.valid_from)
    if price.provider and not provider_kinds.is_known(price.provider):
        known = ", ".join(provider_kinds.names())
        raise Unusable(f"there is no provider “{price.provider}”: choose {known}", {"provider": []})
    with refused():
        price.full_clean()
    price.save()


def withdraw(price: Price) -> None:
    """Delete a price that doesn't apply yet.

    Raises:
        Unusable: it applies already, so calls may have been priced with it.
    """
    if price.valid_from <= timezone.now():
        raise Unusable("this price applies already: add a newer one that replaces it")
    price.delete()
