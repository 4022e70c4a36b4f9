"""Compares a day of a provider's figures with the ledger, and stores what each difference is due to.

Comparisons can be made again at any time: they follow from reads, the ledger and the choice of keys.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

from django.db import connection, transaction
from django.db.models import QuerySet

from keys import provider_kinds
from keys.models import ProviderKey
from reconciliation import ours, theirs
from reconciliation.bill_columns import Meters
from reconciliation.causes.cell import Cell
from reconciliation.causes.explained import explain
from reconciliation.comparisons import CAUSES, Comparison, DatedBy
from reconciliation.freshness import HOUR
from reconciliation.modes import STANDARD, name_of
from reconciliation.ours import Ours, Place
from reconciliation.reads import TOKEN_TYPES, CostRow, Read
from reconciliation.reports.rows import EXACT
from reconciliation.sources import AdminKey, BillFormat, ReportedKey
from reconciliation.theirs import ZERO, Reported, Spot, Theirs
from usage import archived
from usage.pricing import PriceBook, UnpricedModel, load_price_book
from usage.rates import ModelPrice
from usage.tokens import TokenCounts

# One comparison of a source at a time: two would each delete what the other one makes.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('reconciliation_' || %s), %s)"
UNIQUE = ("admin_key", "bill_format", "provider_key", "api_key_id", "start", "hours", "model", "mode")
UPDATED = [
    *("dated_by", "their_requests", "our_requests", "estimated_calls", "unsent_requests", "their_tokens"),
    *("our_tokens", "theirs", "their_fees", "listed", "ours", *CAUSES, "unexplained", "adjustable", "detail"),
]
Source = AdminKey | BillFormat
Cells = dict[Place, Theirs]


@dataclass(slots=True)
class Sides:
    """A day of a report, by our provider keys.

    Attributes:
        first, last: the figures as they were read first and last.
        outside: what isn't ours, by the reported key.
        keys: the provider keys that the source reports on.
        hours: how long a period is.
    """

    first: Cells = field(default_factory=dict)
    last: Cells = field(default_factory=dict)
    outside: dict[Spot, Theirs] = field(default_factory=dict)
    keys: dict[int, ProviderKey] = field(default_factory=dict)
    hours: int = 1


def compare_days(source: Source, days: Iterable[date], tell: Callable[[date, int], None] | None = None) -> None:
    """Compare days, each in a transaction. `tell` gets the number of comparisons of each."""
    book = load_price_book()
    for day in sorted(set(days)):
        count = compare_day(source, datetime(day.year, day.month, day.day, tzinfo=UTC), book)
        if tell is not None:
            tell(day, count)


@transaction.atomic
def compare_day(source: Source, start: datetime, book: PriceBook | None = None) -> int:
    """Compare the day that begins then. Returns the number of comparisons. Where calls of the day are archived, those
    that there are stay as they are."""
    archived.keep_attached()
    if archived.has_day(start.date()):
        return of_source(source).filter(start__gte=start, start__lt=start + 24 * HOUR).count()
    with connection.cursor() as cursor:
        cursor.execute(LOCK, [source._meta.model_name, source.pk])
    made = comparisons(source, start, book or load_price_book())
    Comparison.objects.bulk_create(
        made, update_conflicts=True, unique_fields=UNIQUE, update_fields=UPDATED, batch_size=1000
    )
    kept = {key_of(row) for row in made}
    stored = of_source(source).filter(start__gte=start, start__lt=start + 24 * HOUR)
    gone = [row.pk for row in stored.only("pk", *UNIQUE) if key_of(row) not in kept]
    Comparison.objects.filter(pk__in=gone).delete()
    return len(made)


def of_source(source: Source) -> QuerySet[Comparison]:
    """The comparisons of a source."""
    if isinstance(source, AdminKey):
        return Comparison.objects.filter(admin_key=source)
    return Comparison.objects.filter(bill_format=source)


def key_of(row: Comparison) -> tuple[object, ...]:
    """What a comparison is about."""
    return (row.provider_key_id, row.api_key_id, row.start, row.hours, row.model, row.mode)


def comparisons(source: Source, start: datetime, book: PriceBook) -> list[Comparison]:
    """The comparisons of a day, which aren't saved."""
    if isinstance(source, AdminKey):
        sides, reported = of_admin_key(source, start)
    else:
        sides, reported = of_bills(source, start)
    day = ours.of_day(start)
    if sides.hours == 24:
        day.by_admission = by_day(day.by_admission, start)
        day.by_completion = day.by_admission
    made = []
    for pk, provider_key in sides.keys.items():
        dated_by = dating(pk, sides.last, day, reported) if sides.hours == 1 else DatedBy.ADMISSION
        dated = day.by_completion if dated_by == DatedBy.COMPLETION else day.by_admission
        places = {
            place for each in (sides.last, sides.first, day.by_admission, dated) for place in each if place[0] == pk
        }
        for place in sorted(places):
            if sides.hours == 1 and not reported.has(place[1]):
                continue
            cell = cell_of(provider_key, place, sides, day.by_admission, dated, book)
            row = made_of(cell, place, sides.hours)
            row.dated_by = dated_by
            made.append(row)
    made += [
        Comparison(api_key_id=spot[0], start=spot[1], hours=sides.hours, model=spot[2], mode=spot[3], **side(each))
        for spot, each in sides.outside.items()
    ]
    for row in made:
        row.admin_key = source if isinstance(source, AdminKey) else None
        row.bill_format = source if isinstance(source, BillFormat) else None
    return made


def of_admin_key(admin_key: AdminKey, start: datetime) -> tuple[Sides, Reported]:
    """What an organisation's report says."""
    first, last = theirs.of_day(Read.objects.filter(admin_key=admin_key), start)
    mapped = {
        row.api_key_id: row.provider_key
        for row in ReportedKey.objects.filter(admin_key=admin_key).select_related("provider_key")
        if row.provider_key is not None
    }
    sides = Sides(keys={each.pk: each for each in mapped.values()})
    for reported, cells in ((first, sides.first), (last, sides.last)):
        for (api_key_id, hour, model, mode), spot in reported.spots.items():
            if api_key_id in mapped:
                merge(cells.setdefault((mapped[api_key_id].pk, hour, model, mode), Theirs(requests=0)), spot)
    sides.outside = {spot: each for spot, each in last.spots.items() if spot[0] not in mapped}
    return sides, last


def of_bills(source: BillFormat, start: datetime) -> tuple[Sides, Reported]:
    """What uploaded bills say, the latest of each day."""
    reads = list(Read.objects.filter(bill__format=source, start=start).order_by("id"))
    meters, unit, sides = Meters(source), Decimal(source.tokens_in_unit), Sides(hours=24)
    for first, cells in ((True, sides.first), (False, sides.last)):
        chosen = [read.rows_of for read in theirs.choose(reads, first=first)]
        for row in CostRow.objects.filter(read__in=chosen):
            model, token_type = meters.of(row.meter)
            if model:
                place = (source.provider_key_id, start, name_of(model), STANDARD)
                spot = cells.setdefault(place, Theirs())
            elif first:
                continue
            else:
                spot = sides.outside.setdefault(("", start, "", ""), Theirs())
            theirs.put(spot, token_type, row.amount, None)
            if token_type and row.quantity is not None:
                spot.tokens[token_type] += round(EXACT.multiply(row.quantity, unit))
    if reads:
        sides.keys = {source.provider_key_id: source.provider_key}
    return sides, Reported()


def merge(whole: Theirs, part: Theirs) -> None:
    """Add the figures of another reported key to those of ours."""
    known = None not in (whole.requests, part.requests)
    whole.requests = (whole.requests or 0) + (part.requests or 0) if known else None
    for name in TOKEN_TYPES:
        whole.tokens[name] += part.tokens[name]
        whole.amounts[name] = theirs.add(whole.amounts[name], part.amounts[name])
    if part.listed is not None:
        before = whole.listed or dict.fromkeys(TOKEN_TYPES, ZERO)
        whole.listed = {name: theirs.add(before[name], part.listed[name]) for name in TOKEN_TYPES}
    whole.fees = theirs.add(whole.fees, part.fees)


def by_day(places: dict[Place, Ours], start: datetime) -> dict[Place, Ours]:
    """Sums of hours, for reports of days."""
    found: dict[Place, Ours] = {}
    for (pk, _, model, mode), hour in places.items():
        whole = found.setdefault((pk, start, model, mode), Ours())
        whole.requests += hour.requests
        whole.estimated += hour.estimated
        whole.searches += hour.searches
        whole.estimated_searches += hour.estimated_searches
        whole.cost += hour.cost
        whole.estimated_cost += hour.estimated_cost
        whole.room += hour.room
        for name in TOKEN_TYPES:
            whole.tokens[name] += hour.tokens[name]
            whole.estimated_tokens[name] += hour.estimated_tokens[name]
    return found


def dating(pk: int, cells: Cells, day: ours.Day, reported: Reported) -> DatedBy:
    """To which hour the provider counts a call, by what fits its counts of this day better: the docs don't say."""
    off: dict[DatedBy, int] = defaultdict(int)
    for dated_by, sums in ((DatedBy.ADMISSION, day.by_admission), (DatedBy.COMPLETION, day.by_completion)):
        for place in {place for each in (cells, sums) for place in each if place[0] == pk and reported.has(place[1])}:
            their, our = cells.get(place), sums.get(place, Ours())
            if their is not None and their.requests is None:
                tokens = sum(their.tokens.values()) - sum(our.tokens.values())
                off[dated_by] += abs(tokens)
            else:
                off[dated_by] += abs((their.requests or 0 if their else 0) - our.requests)
    return DatedBy.COMPLETION if off[DatedBy.COMPLETION] < off[DatedBy.ADMISSION] else DatedBy.ADMISSION


def cell_of(
    provider_key: ProviderKey,
    place: Place,
    sides: Sides,
    admitted: dict[Place, Ours],
    dated: dict[Place, Ours],
    book: PriceBook,
) -> Cell:
    """Both sides of a place. What the report lacks there, it has nothing of."""
    nothing = Theirs(requests=0) if sides.hours == 1 else Theirs()
    price = price_of(provider_key, place, book)
    return Cell(
        theirs=sides.last.get(place, nothing),
        ours=admitted.get(place, Ours()),
        dated=dated.get(place, Ours()),
        first=sides.first.get(place, nothing),
        search_price=price.web_search if price else ZERO,
        rate=lambda token_type: rate_of(price, place[3], token_type),
    )


def price_of(provider_key: ProviderKey, place: Place, book: PriceBook) -> ModelPrice | None:
    """What our price book says of a model at that time; None: nothing."""
    kind = provider_kinds.find(provider_key.provider)
    if not place[2]:
        return None
    try:
        return book.price(provider_key.provider, kind.sold_as(provider_key.region, place[2], ""), place[1])
    except UnpricedModel:
        return None


def rate_of(price: ModelPrice | None, mode: str, token_type: str) -> Decimal:
    """USD of one token by our price book."""
    if price is None:
        return ZERO
    tier, *more = mode.split(" ")
    speed, geo = ("fast" if "fast" in more else ""), ("us" if "us" in more else "")
    return price.cost(TokenCounts(**{token_type: 1}), speed=speed, service_tier=tier, inference_geo=geo)


def side(their: Theirs) -> dict[str, object]:
    """The columns of their side."""
    return {
        "their_requests": their.requests,
        "their_tokens": sum(their.tokens.values()),
        "theirs": their.amount,
        "their_fees": their.fees,
        "listed": theirs.total(their.listed.values()) if their.listed is not None else None,
    }


def made_of(cell: Cell, place: Place, hours: int) -> Comparison:
    """The comparison of a cell."""
    parts = explain(cell)
    pk, start, model, mode = place
    return Comparison(
        provider_key_id=pk,
        start=start,
        hours=hours,
        model=model[:200],
        mode=mode,
        **side(cell.theirs),
        our_requests=cell.ours.requests,
        estimated_calls=cell.dated.estimated,
        unsent_requests=parts.unsent_requests,
        our_tokens=sum(cell.ours.tokens.values()),
        ours=cell.ours.cost,
        unexplained=parts.unexplained,
        adjustable=parts.adjustable,
        detail={"theirs": cell.theirs.tokens, "ours": cell.ours.tokens, "dated_tokens": cell.dated.tokens},
        **{cause: getattr(parts, cause) for cause in CAUSES},
    )
