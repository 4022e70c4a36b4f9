"""Adds, ends and withdraws prices of the deployment's own, and exchange rates. One that applies is never changed: a
newer one replaces it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Model
from django.utils import timezone

from keys import provider_kinds
from keys.errors import Unusable, refused
from usage.price_rows import PRICE_COLUMNS, PriceRow, read_rows
from usage.price_tables import ExchangeRate, Price

# A form may have been open for a while, so a time that is this much in the past counts as now.
GRACE = timedelta(days=1)
# One row is added or ended at a time, whichever way, so that of two that overlap the second one is refused.
LOCK = "LOCK TABLE usage_price IN SHARE ROW EXCLUSIVE MODE"


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
        Unusable: it would start in the past, a value is invalid, or it overlaps another one of the same rank.
    """
    price.valid_from = start(price.valid_from)
    if price.provider and not provider_kinds.is_known(price.provider):
        known = ", ".join(provider_kinds.names())
        raise Unusable(f"there is no provider “{price.provider}”: choose {known}", {"provider": []})
    with refused():
        price.full_clean()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(LOCK)
        check_overlaps(price)
        price.save()


def check_overlaps(price: Price) -> None:
    """Check that no other row of the same rank applies at the same time.

    Raises:
        Unusable: one does; the message names it.
    """
    new = as_row(price)
    for other in overlapping(new, stored(price)):
        row = Price.objects.select_related("customer", "team__customer", "virtual_key").get(pk=other.id)
        until = f" until {row.valid_to:%Y-%m-%d %H:%M} UTC" if row.valid_to else ""
        raise Unusable(
            f"It overlaps price {row.pk}, which has the same rank: {row.get_sets_display()}, {row.model} of "
            f"{row.provider or 'any provider'} for {row.is_for}, from {row.valid_from:%Y-%m-%d %H:%M} UTC{until}. "
            "Choose another period, or end that one first.",
            {"valid_from": []},
        )


def overlapping(new: PriceRow, others: tuple[PriceRow, ...]) -> Iterator[PriceRow]:
    """The rows that overlap a new one, and have its rank."""
    return (other for other in others if other.id != new.id and new.clashes(other))


def stored(price: Price) -> tuple[PriceRow, ...]:
    """The rows that may have the same rank as this one."""
    alike = Price.objects.filter(
        sets=price.sets,
        provider=price.provider,
        customer=price.customer_id,
        team=price.team_id,
        virtual_key=price.virtual_key_id,
    )
    return read_rows(alike.values(*PRICE_COLUMNS))


def as_row(price: Price) -> PriceRow:
    """A price as the price book reads it; its id is 0 before it is saved."""
    [row] = read_rows([{name: getattr(price, name) for name in PRICE_COLUMNS} | {"id": price.pk or 0}])
    return row


def end(price: Price, at: datetime | None = None) -> None:
    """Let a price end now or at a later time. What was recorded keeps its cost.

    Raises:
        Unusable: the time has passed, is before the price starts, or the price has ended.
    """
    now = timezone.now()
    moment = now if at is None or now - GRACE < at < now else at
    if moment < now:
        raise Unusable("A price can't end in the past: enter the current or a later time.", {"valid_to": []})
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(LOCK)
        price.refresh_from_db()
        if price.valid_to is not None and price.valid_to <= now:
            raise Unusable("this price has ended already")
        if moment <= price.valid_from:
            raise Unusable("this price doesn't apply yet: withdraw it instead", {"valid_to": []})
        price.valid_to = moment
        check_overlaps(price)
        price.save(update_fields=["valid_to"])


def add_rate(rate: ExchangeRate) -> None:
    """Save a new exchange rate.

    Raises:
        Unusable: it would start in the past, or a value is invalid.
    """
    rate.valid_from = start(rate.valid_from)
    with refused():
        rate.full_clean()
    rate.save()


def withdraw(row: Price | ExchangeRate) -> None:
    """Delete a price or exchange rate that doesn't apply yet.

    Raises:
        Unusable: it applies already, so calls may have been priced with it.
    """
    if applies(row):
        raise Unusable("this price applies already: add a newer one that replaces it, or end it")
    row.delete()


def applies(row: Model) -> bool:
    """Whether a price or exchange rate has begun to apply."""
    begins: datetime = row.valid_from  # type: ignore[attr-defined]
    return begins <= timezone.now()
