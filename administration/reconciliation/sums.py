"""Sums of comparisons for pages: by provider key, day or hour, with what explains the difference."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from keys.models import ProviderKey
from reconciliation.comparisons import CAUSES, Comparison
from reconciliation.freshness import DAILY
from reconciliation.sources import AdminKey, ReportedKey

WORDS = {
    "other_use": ("Other use of the key", "Requests that the provider counts and this gateway never sent."),
    "estimates": ("Estimates and interrupted calls", "What the ledger guessed, because a call’s end was not seen."),
    "hour_edges": ("Hour edges", "Calls that begin in one hour and end in another. Over days they sum to zero."),
    "late_revision": ("Late revision", "The provider has changed its figures since it reported them first."),
    "discount": (
        "The contract’s discount",
        "The provider charges less than its list price; the price book doesn’t.",
    ),
    "price_book": ("Another price", "The provider’s price isn’t that of the price book."),
    "fees": ("Fees that aren’t for tokens", "Web searches, code execution, sessions."),
    "unexplained": ("Unexplained", "No rule explains it."),
}
PARTS = (*CAUSES, "unexplained")
MONEY = ("theirs", "ours", *PARTS, "adjustable")
COUNTS = ("their_requests", "our_requests", "estimated_calls", "unsent_requests", "their_tokens", "our_tokens")
YEARS = range(2020, 2200)
# Digits that pages round to, so that the dust of a division isn't shown.
SHOWN = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Part:
    """A cause with its sum in USD."""

    name: str
    title: str
    explanation: str
    amount: Decimal


@dataclass(slots=True)
class Line:
    """Both sides of a provider key, day or hour. `about`: what it is, as the query groups it."""

    about: dict[str, Any]
    values: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        """A sum, by the name of its column, or what it is about.

        Raises:
            AttributeError: there is no such column.
        """
        if name in MONEY:
            return rounded(self.values[name])
        if name in COUNTS:
            return self.values[name]
        if name in self.about:
            return self.about[name]
        raise AttributeError(name)

    @property
    def difference(self) -> Decimal:
        """How much more the provider charges."""
        return rounded((self.values["theirs"] or Decimal(0)) - (self.values["ours"] or Decimal(0)))

    @property
    def explained(self) -> Decimal:
        """How much of the difference a rule explains."""
        return self.difference - rounded(self.values["unexplained"])

    @property
    def counted(self) -> bool:
        """Whether the provider reports requests."""
        return not self.values["uncounted"]

    @property
    def parts(self) -> list[Part]:
        """The causes that explain something, and what is unexplained."""
        return [part for part in self.all_parts if part.amount]

    @property
    def all_parts(self) -> list[Part]:
        """All causes."""
        return [Part(name, *WORDS[name], rounded(self.values[name])) for name in PARTS]


def rounded(amount: Decimal | None) -> Decimal:
    """An amount as pages round it."""
    return (amount or Decimal(0)).quantize(SHOWN)


def lines(rows: QuerySet[Comparison], *groups: str, **computed: Any) -> list[Line]:
    """Sums by these columns, in their order."""
    names = [*groups, *computed]
    sums = {name: Sum(name) for name in (*MONEY, *COUNTS)}
    grouped = (
        rows.order_by()
        .values(*groups, **computed)
        .annotate(
            uncounted=Count("pk", filter=Q(their_requests=None)), **{f"sum_{name}": each for name, each in sums.items()}
        )
    )
    found = grouped.order_by(*names)
    return [
        Line(
            {name: each[name] for name in names},
            {name: each[f"sum_{name}"] for name in sums} | {"uncounted": each["uncounted"]},
        )
        for each in found
    ]


def whole(rows: QuerySet[Comparison]) -> Line | None:
    """The sum of all rows; None without any."""
    values = rows.aggregate(
        rows=Count("pk"),
        uncounted=Count("pk", filter=Q(their_requests=None)),
        **{name: Sum(name) for name in (*MONEY, *COUNTS)},
    )
    return Line({}, values) if values["rows"] else None


@dataclass(frozen=True, slots=True)
class Month:
    """A month in UTC, as providers bill."""

    start: datetime

    @property
    def end(self) -> datetime:
        """The first moment of the next one."""
        return self.start.replace(year=self.start.year + self.start.month // 12, month=self.start.month % 12 + 1)

    @property
    def before(self) -> Month:
        """The month before."""
        year, month = self.start.year, self.start.month
        return Month(self.start.replace(year=year if month > 1 else year - 1, month=month - 1 or 12))

    @property
    def after(self) -> Month | None:
        """The month after, unless it is in the future."""
        return Month(self.end) if self.end <= timezone.now() else None

    @property
    def name(self) -> str:
        """As URLs have it: `2026-11`."""
        return f"{self.start:%Y-%m}"

    @property
    def frozen_at(self) -> datetime:
        """When the last of its figures becomes final."""
        return self.end + DAILY

    @property
    def is_frozen(self) -> bool:
        """Whether its figures are final."""
        return timezone.now() >= self.frozen_at

    def rows(self) -> QuerySet[Comparison]:
        """Its comparisons."""
        return Comparison.objects.filter(start__gte=self.start, start__lt=self.end)


def month_of(text: str | None) -> Month:
    """The month that a URL names; this month, if it names none that can be read."""
    try:
        day = date.fromisoformat(f"{text or ''}-01")
    except ValueError:
        day = timezone.now().astimezone(UTC).date().replace(day=1)
    if day.year not in YEARS:
        day = timezone.now().astimezone(UTC).date().replace(day=1)
    return Month(datetime(day.year, day.month, 1, tzinfo=UTC))


def day_of(text: str | None, month: Month) -> datetime:
    """The day that a URL names; the first one of the month, if it names none that can be read."""
    try:
        day = date.fromisoformat(text or "")
    except ValueError:
        return month.start
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if day.year in YEARS else month.start


def by_day(rows: QuerySet[Comparison]) -> list[Line]:
    """Sums by day (UTC)."""
    return lines(rows, day=TruncDate("start", tzinfo=UTC))


@dataclass(slots=True)
class Outside:
    """Money of an organisation that no provider key of ours has spent, by reported key."""

    source: str
    key: str
    amount: Decimal
    requests: int | None


@dataclass(slots=True)
class Overview:
    """What the front page of the reconciliation shows."""

    month: Month
    lines: list[Line] = field(default_factory=list)
    whole: Line | None = None
    outside: list[Outside] = field(default_factory=list)
    sources: list[AdminKey] = field(default_factory=list)
    without: list[ProviderKey] = field(default_factory=list)
    ambiguous: int = 0


def overview(month: Month) -> Overview:
    """A month by provider key. A fixed number of queries."""
    ours = month.rows().filter(provider_key__isnull=False)
    found = Overview(month, lines(ours, "provider_key"), whole(ours))
    names = ProviderKey.objects.in_bulk([line.about["provider_key"] for line in found.lines])
    for line in found.lines:
        line.about["key"] = names[line.about["provider_key"]]
    found.lines.sort(key=lambda line: -abs(line.difference))
    found.outside = outside(month.rows().filter(provider_key=None))
    found.sources = list(AdminKey.objects.filter(active=True))
    providers = {source.provider for source in found.sources}
    mapped = ReportedKey.objects.filter(provider_key__isnull=False).values("provider_key")
    found.without = list(
        ProviderKey.objects.filter(active=True, provider__in=providers).exclude(pk__in=mapped).order_by("name")[:20]
    )
    found.ambiguous = ReportedKey.objects.filter(provider_key=None, candidates__gt=1).count()
    return found


def outside(rows: QuerySet[Comparison]) -> list[Outside]:
    """What isn't ours, the largest amount first."""
    sums = rows.order_by().values("admin_key", "admin_key__name", "bill_format__name", "api_key_id")
    names = {
        (row.admin_key_id, row.api_key_id): str(row)
        for row in ReportedKey.objects.filter(api_key_id__in=rows.order_by().values("api_key_id"))
    }
    found = [
        Outside(
            each["admin_key__name"] or f"bills of {each['bill_format__name']}",
            names.get((each["admin_key"], each["api_key_id"]), each["api_key_id"])
            or ("no key" if each["admin_key"] else "meters that no pattern fits"),
            rounded(each["amount"]),
            each["requests"],
        )
        for each in sums.annotate(amount=Sum("theirs"), requests=Sum("their_requests"))
    ]
    return sorted(found, key=lambda one: -one.amount)
