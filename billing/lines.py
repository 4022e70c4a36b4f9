"""The lines of a statement: what is covered, split by team, virtual key, model and token category.

Calls are priced again by the price book to split their amounts by category, in groups of calls that have the same
prices. What calls were charged otherwise, such as an estimate that was limited by its hold, is a line of its own, so
that the lines add up to the ledger to the last digit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

from billing.categories import (
    CATEGORIES,
    UNIT_OF_REQUESTS,
    UNIT_OF_TOKENS,
    Mode,
    UnitPrices,
    list_changes,
    price_lengths,
)
from billing.covers import Covered
from billing.models import LineKind
from keys import provider_kinds
from keys.model_names import fold
from keys.models import ProviderKey, Team, VirtualKey
from usage.models import Adjustment, LedgerEntry
from usage.pricing import Owner, PriceBook, UnpricedModel, load_price_book
from usage.rates import ModelPrice
from usage.recomputed import NOTHING, recorded
from usage.splits import PLACES
from usage.tokens import TOKEN_COLUMNS, TokenCounts

# Digits that sums and products keep: more than any of them has.
PRECISION = 80
# A call's cost is rounded to twelve places, at most once for each of its parts, of which few have more than this.
DUST = Decimal("3e-12")
# Rows that are priced one by one, per query.
PAGE = 500
# A call of one part, whose tokens all have the same prices.
SIMPLE = "(e.iterations = '[]'::jsonb AND jsonb_array_length(e.attempts) <= 1)"
COST_CENTRE = "left(coalesce(e.labels->>'cost_centre', ''), 200)"
READ = (
    "(e.input_tokens + e.cache_read_input_tokens + e.cache_creation_5m_input_tokens + e.cache_creation_1h_input_tokens)"
)

GROUPS = f"""
SELECT e.team_id, e.virtual_key_id, {COST_CENTRE}, e.provider, e.provider_key_id, e.model, e.estimated,
    e.service_tier, e.speed, e.inference_geo, e.price_version,
    e.price_flag = 'refusal_not_billed' AND e.cost = 0 AS free,
    width_bucket({READ} / (1 + e.web_search_requests), %(lengths)s::bigint[]) AS length,
    width_bucket(e.admitted_at, %(changes)s::timestamptz[]) AS slot,
    min(e.admitted_at), count(*), count(*) FILTER (WHERE {READ} + e.output_tokens + e.web_search_requests > 0),
    {", ".join(f"sum(e.{name})" for name in TOKEN_COLUMNS)}, sum(coalesce(e.charge, e.cost))
FROM {{entries}} AND {SIMPLE} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
"""  # noqa: S608 - constants
OTHERS = f"SELECT e.id FROM {{entries}} AND NOT {SIMPLE} ORDER BY e.id"  # noqa: S608 - constants
ADJUSTED = f"""
SELECT e.team_id, e.virtual_key_id, {COST_CENTRE}, e.provider, e.model, a.reason,
    coalesce(a.detail->>'reason', ''), a.author,
    (SELECT c.id FROM billing_closing c WHERE c.customer_id = e.customer_id
        AND e.admitted_at >= c.starts_at AND e.admitted_at < c.ends_at AND e.xid < c.below_xid::xid8) AS closing,
    count(*), sum(coalesce(a.charge, a.cost))
FROM {{adjustments}} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""  # noqa: S608 - constants


class Place(NamedTuple):
    """Whose calls lines are about, and of which model."""

    team: int | None
    virtual_key: int
    cost_centre: str
    provider: str
    model: str
    estimated: bool
    earlier: bool

    def line(self, kind: str, **more: Any) -> Line:
        """A line of these calls."""
        return Line(
            kind,
            team_id=self.team,
            virtual_key_id=self.virtual_key,
            cost_centre=self.cost_centre,
            provider=self.provider,
            model=self.model,
            estimated=self.estimated,
            earlier=self.earlier,
            **more,
        )


class Priced(NamedTuple):
    """What tells the lines of a place apart."""

    kind: str
    category: str
    unit_price: Decimal
    list_price: Decimal | None


@dataclass(slots=True)
class Line:
    """A line. Prices are USD per unit; `list_amount`, `discount` and `net` USD; `amount` in the document's currency."""

    kind: str
    team_id: int | None = None
    team: str = ""
    virtual_key_id: int | None = None
    virtual_key: str = ""
    cost_centre: str = ""
    provider: str = ""
    model: str = ""
    category: str = ""
    calls: int = 0
    quantity: int = 0
    unit: str = ""
    list_price: Decimal | None = None
    unit_price: Decimal | None = None
    list_amount: Decimal = Decimal(0)
    discount: Decimal = Decimal(0)
    net: Decimal = Decimal(0)
    amount: Decimal = Decimal(0)
    estimated: bool = False
    earlier: bool = False
    reason: str = ""
    refers_to: str = ""


@dataclass(slots=True)
class Used:
    """Calls, their quantity, and their amounts in USD."""

    calls: int = 0
    quantity: int = 0
    net: Decimal = Decimal(0)
    listed: Decimal = Decimal(0)

    def add(self, calls: int, quantity: int, net: Decimal, listed: Decimal) -> None:
        """Add more."""
        self.calls += calls
        self.quantity += quantity
        self.net += net
        self.listed += listed


@dataclass(slots=True)
class Splitter:
    """Splits the amounts of calls by category.

    Attributes:
        owed, calls: what the ledger has, by place.
        used: the lines of each place.
    """

    book: PriceBook
    list_prices: PriceBook = field(init=False)
    owed: dict[Place, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    calls: dict[Place, int] = field(default_factory=lambda: defaultdict(int))
    used: dict[Place, dict[Priced, Used]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Used)))
    regions: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.list_prices = PriceBook((), self.book.policy)
        self.regions = dict(ProviderKey.objects.values_list("pk", "region"))

    def add_covered(self, covered: Covered) -> None:
        """Add the calls of a cover."""
        lengths = [each + 1 for each in price_lengths()]
        for row in self.groups(covered, lengths):
            self.add_group(row, covered, lengths)
        ids = [row[0] for row in covered.read(OTHERS.format(entries=covered.entries()))]
        for at in range(0, len(ids), PAGE):
            rows = LedgerEntry.objects.filter(pk__in=ids[at : at + PAGE]).select_related("provider_key").order_by("pk")
            for entry in rows:
                self.add_call(entry, covered.earlier)

    def groups(self, covered: Covered, lengths: list[int]) -> list[tuple[Any, ...]]:
        """Groups of calls with the same prices: between changes of the list, and by what prices depend on."""
        changes = [covered.starts_at, *list_changes(covered.starts_at, covered.ends_at)]
        return covered.read(GROUPS.format(entries=covered.entries()), lengths=lengths, changes=changes)

    def add_group(self, row: Sequence[Any], covered: Covered, lengths: list[int]) -> None:
        """Add calls with the same prices."""
        team, key, cost_centre, provider, provider_key, model, estimated, tier, speed, geo, _, free, length = row[:13]
        at, calls, billed, *sums, owed = row[14:]
        place = Place(team, key, cost_centre, provider, fold(model), estimated, covered.earlier)
        self.owed[place] += owed
        self.calls[place] += calls
        counts = TokenCounts(*map(int, sums))
        if free or counts == NOTHING:
            return
        owner = Owner(key, team, covered.customer)
        name = provider_kinds.find(provider).sold_as(self.regions.get(provider_key, ""), model, "")
        mode = Mode(lengths[length - 1] if length else 0, tier, speed, geo)
        self.add_priced(place, self.prices(provider, name, at, owner), mode, counts, calls, billed)

    def add_call(self, entry: LedgerEntry, earlier: bool) -> None:
        """Add one call of several parts."""
        place = Place(
            entry.team_id,
            entry.virtual_key_id,
            str(entry.labels.get("cost_centre") or "")[:200],
            entry.provider,
            fold(entry.model),
            entry.estimated,
            earlier,
        )
        self.owed[place] += entry.owed
        self.calls[place] += 1
        call = recorded(entry, ())
        region = entry.provider_key.region if entry.provider_key else ""
        for part in call.parts():
            if part.free or part.counts == NOTHING:
                continue
            name = provider_kinds.find(part.provider).sold_as(region, part.model, "")
            length = part.counts.prompt_tokens // part.steps
            mode = Mode(length, entry.service_tier, entry.speed, entry.inference_geo)
            there = place._replace(provider=part.provider, model=fold(part.model))
            prices = self.prices(part.provider, name, entry.admitted_at, call.owner)
            self.add_priced(there, prices, mode, part.counts, 1, int(part.flat))
            if there != place and prices is not None:
                paid = prices.net(part.counts, mode, int(part.flat)).quantize(PLACES)
                self.owed[there] += paid
                self.owed[place] -= paid

    def prices(self, provider: str, name: str, at: datetime, owner: Owner) -> UnitPrices | None:
        """What a model cost an owner, and what its list price was; None: it has no price any more."""
        try:
            price = self.book.price(provider, name, at, owner).owed
        except UnpricedModel:
            return None
        listed: ModelPrice | None = None
        with suppress(UnpricedModel):
            listed = self.list_prices.price(provider, name, at)
        return UnitPrices(price, listed if listed is not None and listed.flag != "unpriced" else None)

    def add_priced(
        self, place: Place, prices: UnitPrices | None, mode: Mode, counts: TokenCounts, calls: int, billed: int
    ) -> None:
        """Add tokens, searches and what each request costs."""
        if prices is None:
            return
        for kind, category, quantity, unit_price, list_price in prices.split(counts, mode, billed):
            used = self.used[place][Priced(kind, category, unit_price, list_price)]
            divided = -6 if kind == LineKind.TOKENS else 0
            net = (unit_price * quantity).scaleb(divided)
            used.add(calls, quantity, net, net if list_price is None else (list_price * quantity).scaleb(divided))

    def lines(self) -> Iterator[Line]:
        """All lines of calls: those of categories, and for each place what its calls were charged otherwise."""
        for place in sorted(self.owed, key=order):
            found = self.used.get(place, {})
            calls = self.calls[place]
            for used in found.values():
                used.net, used.listed = used.net.quantize(PLACES), used.listed.quantize(PLACES)
            rest = self.owed[place] - sum((used.net for used in found.values()), Decimal(0))
            if rest and found and abs(rest) <= DUST * (calls + len(found)):
                # Digits beyond the twelfth, which settlement rounds for each call.
                largest = max(found.values(), key=lambda used: abs(used.net))
                largest.add(0, 0, rest, rest)
                rest = Decimal(0)
            for priced in sorted(found, key=rank):
                used = found[priced]
                yield place.line(
                    priced.kind,
                    category=priced.category,
                    calls=used.calls,
                    quantity=used.quantity,
                    unit=UNIT_OF_TOKENS if priced.kind == LineKind.TOKENS else UNIT_OF_REQUESTS,
                    list_price=priced.list_price and cut(priced.list_price),
                    unit_price=cut(priced.unit_price),
                    list_amount=used.listed,
                    discount=used.listed - used.net,
                    net=used.net,
                )
            if rest:
                yield place.line(LineKind.REMAINDER, calls=calls, list_amount=rest, net=rest)


def order(place: Place) -> tuple[Any, ...]:
    """The order of places: earlier months last, then by team and key."""
    return (place.earlier, place.team or 0, place.virtual_key, *place[2:6])


def rank(priced: Priced) -> tuple[Any, ...]:
    """The order of the lines of a place."""
    return (CATEGORIES.index(priced.category), -priced.unit_price, priced.list_price or 0)


def cut(price: Decimal) -> Decimal:
    """A price with the digits that are stored. Only a fast price by an odd factor has more."""
    return price.quantize(Decimal("1e-18"))


def of(covered: Iterable[Covered], numbers: Mapping[tuple[int, int | None], str] | None = None) -> list[Line]:
    """The lines of what is covered, with exact amounts in USD, and names as they are now.

    Args:
        numbers: of the statements that adjustments may refer to, by closing and team.
    """
    splitter, adjusted = Splitter(load_price_book()), []
    with localcontext(prec=PRECISION):
        for each in covered:
            splitter.add_covered(each)
            adjusted += list(adjustments(each, numbers or {}))
        found = [*splitter.lines(), *adjusted]
    name(found)
    return found


def adjustments(covered: Covered, numbers: Mapping[tuple[int, int | None], str]) -> Iterator[Line]:
    """A line for the adjustments of each key and model that have the same reason."""
    for *place, reason, why, author, closing, calls, owed in covered.read(
        ADJUSTED.format(adjustments=covered.adjustments())
    ):
        team, key, cost_centre, provider, model = place
        there = Place(team, key, cost_centre, provider, fold(model), estimated=False, earlier=covered.earlier)
        label = Adjustment.Reason(reason).label if reason in Adjustment.Reason.values else reason
        said = ": ".join(each for each in (label, why) if each) + (f" ({author})" if author else "")
        number = numbers.get((closing, team)) or numbers.get((closing, None), "")
        yield there.line(LineKind.ADJUSTMENT, calls=calls, list_amount=owed, net=owed, reason=said, refers_to=number)


def name(lines: list[Line]) -> None:
    """Fill in the names of teams and virtual keys."""
    teams = dict(Team.objects.filter(pk__in={line.team_id for line in lines}).values_list("pk", "name"))
    keys = dict(VirtualKey.objects.filter(pk__in={line.virtual_key_id for line in lines}).values_list("pk", "name"))
    for line in lines:
        line.team = teams.get(line.team_id, "") if line.team_id is not None else ""
        line.virtual_key = keys.get(line.virtual_key_id, "") if line.virtual_key_id is not None else ""
