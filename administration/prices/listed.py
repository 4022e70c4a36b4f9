"""List prices as they are in force on a day, beside the deployment's own prices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.core.paginator import Page as Part
from django.core.paginator import Paginator
from django.utils import timezone

from keys import provider_kinds
from keys.model_names import fold
from usage.listings import Listing, change_moments
from usage.named_models import catalogue
from usage.pricing import ModelPrice, PriceBook, UnpricedModel, load_price_book

# Models on a page.
LINES = 100

# A model of a price list, with the provider whose list it is.
Entry = tuple[str, Listing]


@dataclass(frozen=True, slots=True)
class Line:
    """A model of a provider's price list, in USD per million tokens.

    Attributes:
        listed: its list price on that day; None: it had none.
        since, until: when that price began, and when it ends, if the list has dates.
        price: what calls cost here on that day, with what owners pay who have no price of their own.
        own: one of the deployment's own prices applies.
    """

    provider: str
    model: str
    listed: ModelPrice | None
    since: datetime | None
    until: datetime | None
    price: ModelPrice | None
    own: bool


def moment_of(day: date | None) -> datetime:
    """The moment for which a page shows prices: now, or the last moment of another day in UTC."""
    now = timezone.now()
    if day is None or day == now.astimezone(UTC).date():
        return now
    return datetime.combine(day + timedelta(days=1), time(), UTC) - timedelta(microseconds=1)


def entries(provider: str, text: str) -> Iterator[Entry]:
    """The models of price lists, by the provider whose list it is.

    Args:
        provider: only of this one; empty: of all.
        text: a part of the model's name; empty: all models.
    """
    wanted = fold(text)
    for kind in [provider] if provider else provider_kinds.names():
        for source in provider_kinds.find(kind).price_lists:
            for model in catalogue()[source].models:
                if wanted in fold(model.id):
                    yield kind, Listing(source, model, similar=False)


def page(provider: str, text: str, day: date | None, number: str) -> tuple[Part[Entry], list[Line]]:
    """A page of models, by provider and name, and their prices on a day. A wrong number is the first or last page."""
    found = sorted(entries(provider, text), key=lambda one: (one[0], one[1].model.id))
    part = Paginator(found, LINES).get_page(number)
    book, at = load_price_book(), moment_of(day)
    return part, [line(book, kind, listing, at) for kind, listing in part.object_list]


def line(book: PriceBook, provider: str, listing: Listing, at: datetime) -> Line:
    """The prices of one model at a moment."""
    name = listing.model.id
    moments = change_moments(listing.model, at)
    try:
        choice = book.choose(provider, name, at)
    except UnpricedModel:
        choice = None
    return Line(
        provider,
        name,
        listing.price(provider, name, at),
        max((each for each in moments if each <= at), default=None),
        min((each for each in moments if each > at), default=None),
        choice.price if choice else None,
        choice is not None and (choice.cost_row is not None or choice.charge_row is not None),
    )
