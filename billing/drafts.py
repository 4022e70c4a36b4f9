"""What a statement would say if its month were closed now. A draft is computed each time it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal, localcontext
from typing import Any

from django.db import transaction
from django.db.models import Count
from django.db.models import Sum as Add

from billing import covers, months
from billing import lines as statement_lines
from billing.covers import Covered, Sum
from billing.currencies import rounded
from billing.lines import PRECISION, Line
from billing.models import Closing, LineKind, Particulars, Statement
from keys.errors import Unusable
from keys.models import Customer, Team
from usage import export, moments
from usage.listings import catalogue_version
from usage.models import OWED, ExchangeRate, Hold, Price, Rollup

USD = "USD"
# Open holds that a statement lists; of the others it says the sum.
HELD = 100


@dataclass(frozen=True, slots=True)
class Period:
    """A month of a customer that isn't closed.

    Attributes:
        starts_at, ends_at: in UTC; it begins where the last closed month ended.
        particulars: None where the customer has none yet.
        previous: the last closing; None for the first one.
    """

    customer: Customer
    month: date
    zone: str
    starts_at: datetime
    ends_at: datetime
    particulars: Particulars | None
    previous: Closing | None


@dataclass(slots=True)
class Held:
    """Calls of the month that are still under way. What they cost goes on the next statement, at most `ceiling` USD."""

    calls: int = 0
    ceiling: Decimal = Decimal(0)
    listed: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Draft:
    """A document without its number.

    Attributes:
        team: of a team, if the customer has statements by team; None: of calls without a team.
        rate: of the currency to a USD; None where it is missing, so that there are no amounts in the currency.
        sums: what is covered, as the ledger has it.
        lines: with the rounding line at the end.
    """

    period: Period
    team: Team | None
    by_team: bool
    currency: str
    rate: ExchangeRate | None
    sums: Sum
    lines: list[Line]
    total: Decimal = Decimal(0)

    @property
    def total_usd(self) -> Decimal:
        """The exact total."""
        return self.sums.owed


@dataclass(slots=True)
class Month:
    """The documents of a month.

    Attributes:
        missing: why the month can't be closed yet, each a sentence.
        leaves: calls before the first statement, which no statement covers; USD.
    """

    period: Period
    covered: list[Covered]
    drafts: list[Draft]
    held: Held
    missing: list[str]
    leaves: Sum | None


def period_of(customer: Customer, month: date) -> Period:
    """An open month of a customer.

    Raises:
        Unusable: it is closed, or before a closed one.
    """
    particulars = Particulars.objects.select_related("issuer", "customer").filter(customer=customer).first()
    zone = particulars.zone if particulars else customer.time_zone
    previous = Closing.objects.filter(customer=customer).order_by("-ends_at").first()
    if previous is not None and month <= previous.month:
        if Closing.objects.filter(customer=customer, month=month).exists():
            raise Unusable(f"{month:%Y-%m} of {customer} is closed already")
        raise Unusable(f"{month:%Y-%m} of {customer} is before {previous.month:%Y-%m}, which is closed")
    ends_at = months.end(month, zone)
    starts_at = previous.ends_at if previous else months.start(month, zone)
    return Period(customer, month, zone, starts_at, ends_at, particulars, previous)


@transaction.atomic(savepoint=False)  # a page sets its actor for each transaction
def compute(customer: Customer, month: date, below_xid: str | None = None) -> Month:
    """The drafts of a month: one, or one for each team that has calls in it.

    Args:
        below_xid: the horizon; None: the present one.

    Raises:
        Unusable: the month is closed, or before a closed one.
    """
    period = period_of(customer, month)
    below = below_xid or covers.horizon()[0]
    covered = covers.of_closing(customer.pk, period.starts_at, period.ends_at, below)
    currency = period.particulars.currency if period.particulars else USD
    rate = rate_of(currency, period.ends_at)
    by_team = bool(period.particulars and period.particulars.by_team)
    found = statement_lines.of(covered, numbers_of(customer))
    drafts = split(period, covered, found, currency, rate, by_team=by_team)
    return Month(period, covered, drafts, held(period), missing(period, currency, rate), leaves(period))


def split(
    period: Period,
    covered: list[Covered],
    found: list[Line],
    currency: str,
    rate: ExchangeRate | None,
    *,
    by_team: bool,
) -> list[Draft]:
    """The documents for these lines, with amounts in their currency."""
    sums = covers.sums(covered)
    whole: list[tuple[Team | None, list[Line], Sum]]
    if not by_team:
        whole = [(None, found, sum(sums.values(), Sum()))] if sums or found else []
    else:
        teams: dict[int | None, Team | None] = {None: None, **Team.objects.in_bulk([each for each in sums if each])}
        whole = [
            (teams[each], [line for line in found if line.team_id == each], sums[each])
            for each in sorted(sums, key=lambda team: (team is None, team or 0))
        ]
    drafts = []
    for team, own, owed in whole:
        draft = Draft(period, team, by_team, currency, rate, owed, own)
        exchange(draft)
        drafts.append(draft)
    return drafts


def exchange(draft: Draft) -> None:
    """Fill in the amounts in the draft's currency, rounded, and add the rounding line.

    Raises:
        AssertionError: the lines aren't the ledger's sum.
    """
    with localcontext(prec=PRECISION):
        found = sum((line.net for line in draft.lines), Decimal(0))
        assert found == draft.sums.owed, f"lines {found} and ledger {draft.sums.owed} differ"
        if draft.rate is None and draft.currency != USD:
            return
        factor = draft.rate.rate if draft.rate else Decimal(1)
        for line in draft.lines:
            line.amount = rounded(line.net * factor, draft.currency)
        draft.total = rounded(found * factor, draft.currency)
        difference = draft.total - sum((line.amount for line in draft.lines), Decimal(0))
    if difference:
        draft.lines.append(Line(LineKind.ROUNDING, amount=difference))


def rate_of(currency: str, at: datetime) -> ExchangeRate | None:
    """The exchange rate in force at the end of a month; None: the currency is USD, or has no rate."""
    rows = ExchangeRate.objects.filter(currency=currency, valid_from__lte=at)
    return rows.order_by("-valid_from").first() if currency != USD else None


def numbers_of(customer: Customer) -> dict[tuple[int, int | None], str]:
    """The numbers of a customer's statements, by closing and team."""
    rows = Statement.objects.filter(customer=customer, credit=0)
    return {(row.closing_id, row.team_id): row.number for row in rows.only("closing_id", "team_id", "number")}


def missing(period: Period, currency: str, rate: ExchangeRate | None) -> list[str]:
    """Why a month can't be closed yet."""
    found = []
    if period.particulars is None:
        found.append("The customer has no billing particulars: they say who issues its statements.")
    if moments.now() < period.ends_at:
        found.append(f"The month isn't over: it ends at {moments.show(period.ends_at)[:16]} UTC.")
    if currency != USD and rate is None:
        found.append(f"There is no exchange rate for {currency} from before the end of the month.")
    first = months.start(period.month, period.zone)
    skipped = period.previous is not None and months.following(period.previous.month) < period.month
    if skipped and called(period.customer, period.starts_at, first):
        found.append("An earlier month with calls is open: close it first.")
    return found


def called(customer: Customer, since: datetime, until: datetime) -> bool:
    """Whether a customer has calls that were admitted within a time."""
    return export.Range(since, until).rows().order_by().filter(customer=customer).exists()


def leaves(period: Period) -> Sum | None:
    """The calls before a first statement, which no statement will cover, by the roll-ups; None: there are none."""
    if period.previous is not None:
        return None
    rows = Rollup.objects.filter(customer=period.customer, bucket__lt=period.starts_at)
    sums = rows.aggregate(calls=Add("calls"), owed=Add(OWED))
    return Sum(sums["calls"], 0, sums["owed"]) if sums["calls"] else None


def held(period: Period) -> Held:
    """The calls of a month that are under way."""
    rows = Hold.objects.filter(
        customer=period.customer, admitted_at__gte=period.starts_at, admitted_at__lt=period.ends_at, ceiling__gt=0
    )
    sums = rows.aggregate(calls=Count("pk"), ceiling=Add("ceiling"))
    if not sums["calls"]:
        return Held()
    listed = [
        {
            "id": str(row.pk),
            "admitted_at": moments.show(row.admitted_at),
            "virtual_key": row.virtual_key.name,
            "model": row.requested_model,
            "ceiling": row.ceiling,
        }
        for row in rows.select_related("virtual_key").order_by("admitted_at", "pk")[:HELD]
    ]
    return Held(sums["calls"], sums["ceiling"], listed)


def price_book(period: Period) -> dict[str, Any]:
    """The version of the price book: the list prices, and the ids of the own prices in force within the period."""
    rows = Price.objects.filter(valid_from__lt=period.ends_at).exclude(valid_to__lte=period.starts_at)
    return {
        "list_prices": f"genai-prices {catalogue_version()}",
        "own_prices": list(rows.order_by("pk").values_list("pk", flat=True)),
    }


def of_team(month: Month, team: int | None) -> Draft | None:
    """The draft of a team."""
    return next((each for each in month.drafts if (each.team.pk if each.team else None) == team), None)


def covered_by(covered: Sequence[Covered], draft: Draft) -> list[Covered]:
    """The covers of one of a month's documents."""
    team = draft.team.pk if draft.team else None
    return [replace(each, by_team=draft.by_team, team=team) for each in covered]
