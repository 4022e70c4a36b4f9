"""What the page of a provider key shows, each part in a fixed number of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from administration.charts import Chart, Series
from administration.roles import visible
from keys.models import ModelList, ProviderKey, VirtualKey, VirtualKeyRoute
from usage.models import QuarterTotal, Status
from usage.pricing import ModelPrice, PriceBook, UnpricedModel, load_price_book

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Virtual keys of a page, and models that are listed.
KEYS, MODELS = 25, 100
# The latest calls of all provider keys, among which those of the last day are looked for.
LOOKED_AT = 20_000
FAILED = (Status.FAILED, Status.REFUSED_BY_PROVIDER)

LATENCY = """
SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY time_to_first_byte_ms),
    percentile_cont(0.95) WITHIN GROUP (ORDER BY time_to_first_byte_ms),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms), percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms)
FROM (
    SELECT provider_key_id, status, time_to_first_byte_ms, duration_ms FROM usage_ledgerentry
    WHERE id >= usage_first_id(%(since)s) ORDER BY id DESC LIMIT %(most)s) AS latest
WHERE provider_key_id = %(provider_key)s AND status = 'completed'
"""


@dataclass(frozen=True, slots=True)
class Lately:
    """A provider key's last 24 hours: calls that it answered, calls that it failed or refused, and their cost in USD.
    `month`: the cost of this month (UTC)."""

    answered: int
    failed: int
    cost: Decimal
    month: Decimal
    chart: Chart

    @property
    def success(self) -> Decimal | None:
        """Percent of its calls that it answered; None without calls. Calls that their client left don't count."""
        calls = self.answered + self.failed
        return Decimal(100 * self.answered) / calls if calls else None


def lately(provider_key: ProviderKey, now: datetime) -> Lately:
    """The totals of a provider key. Two queries."""
    first = now.replace(minute=0, second=0, microsecond=0) - 23 * HOUR
    rows = QuarterTotal.objects.filter(provider_key=provider_key).order_by()
    calls: dict[str, list[int]] = defaultdict(lambda: [0] * 24)
    cost = Decimal(0)
    sums = rows.filter(bucket__gte=first).values_list("bucket", "status").annotate(Sum("calls"), Sum("cost"))
    for bucket, status, number, spent in sums:
        calls[status][int((bucket - first) / HOUR)] += number
        cost += spent
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    failed = [sum(hour) for hour in zip(*(calls[status] for status in FAILED), strict=True)]
    answered = calls[Status.COMPLETED]
    labels = [f"{timezone.localtime(first + hour * HOUR):%H:%M}" for hour in range(24)]
    series = [Series("answered", "calls", answered), Series("failed or refused", "theirs", failed)]
    return Lately(
        sum(answered),
        sum(failed),
        cost,
        rows.filter(bucket__gte=month).aggregate(cost=Sum("cost"))["cost"] or Decimal(0),
        Chart("Calls an hour", labels, series),
    )


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of a provider key's completed calls, of the last day: the median, and what 95 % stay within."""

    calls: int
    first_byte: int | None
    first_byte_95: int | None
    whole: int | None
    whole_95: int | None


def latency(provider_key: ProviderKey, now: datetime) -> Latency:
    """The latency of its calls among the latest `LOOKED_AT` of all. One query."""
    with connection.cursor() as cursor:
        cursor.execute(LATENCY, {"since": now - DAY, "most": LOOKED_AT, "provider_key": provider_key.pk})
        calls, *times = cursor.fetchone()
    return Latency(calls, *(None if each is None else round(each) for each in times))


@dataclass(frozen=True, slots=True)
class Dependants:
    """A page of the virtual keys that map to a provider key, the newest first; `next` is where the next page begins."""

    routes: list[Any]
    next: int | None


def dependants(provider_key: ProviderKey, user: Any, before: int | None) -> Dependants:
    """Virtual keys that are not revoked, each with its weight here and whether it has another provider key that is
    switched on (`others`). Two queries.

    Args:
        before: the id of the last key of the page before.
    """
    routes = VirtualKeyRoute.objects.filter(
        provider_key=provider_key, virtual_key__passthrough=False, virtual_key__revoked_at=None
    )
    keys = visible(user, VirtualKey.objects.all())
    if keys.query.where:  # a join with all keys would cost the order of the index
        routes = routes.filter(virtual_key__in=keys.order_by().values("pk"))
    if before is not None:
        routes = routes.filter(virtual_key__lt=before)
    owners = ("virtual_key__customer", "virtual_key__team__customer")
    found: list[Any] = list(routes.select_related(*owners).order_by("-virtual_key_id")[: KEYS + 1])
    more = found[KEYS - 1].virtual_key_id if len(found) > KEYS else None
    others = VirtualKeyRoute.objects.filter(
        virtual_key__in=[route.virtual_key_id for route in found], provider_key__active=True
    ).exclude(provider_key=provider_key)
    with_others = set(others.values_list("virtual_key", flat=True))
    for route in found:
        route.others = route.virtual_key_id in with_others
    return Dependants(found[:KEYS], more)


@dataclass(frozen=True, slots=True)
class Offered:
    """A model of a provider key with its prices in USD per million tokens: the catalogue's, and what calls cost here.
    None: there is no such price. `own`: a price of the deployment's own applies."""

    name: str
    listed: ModelPrice | None
    price: ModelPrice | None

    @property
    def own(self) -> bool:
        """Whether calls cost something else than in the catalogue."""
        return self.price is not None and self.price.version.startswith("price ")


def models(provider_key: ProviderKey) -> tuple[list[Offered], int]:
    """The models that its provider lists and it serves, or else those that its own settings name; and how many more
    there are than are listed. Two queries."""
    names = names_of(provider_key, ModelList.objects.filter(pk=provider_key.pk).first())
    book = load_price_book()
    catalogue = PriceBook((), book.policy)
    now = timezone.now()
    found = [
        Offered(name, price_of(catalogue, provider_key, name, now), price_of(book, provider_key, name, now))
        for name in names[:MODELS]
    ]
    return found, max(0, len(names) - MODELS)


def names_of(provider_key: ProviderKey, listed: ModelList | None) -> list[str]:
    """The names of the models that a provider key serves, where they are known."""
    named: Iterable[str] = (str(model["id"]) for model in listed.listed) if listed is not None else ()
    served = [name for name in named if provider_key.serves(name)]
    return served or [name for name in provider_key.model_patterns if "*" not in name]


def price_of(book: PriceBook, provider_key: ProviderKey, model: str, now: datetime) -> ModelPrice | None:
    """What a model costs by this book; None if it has no price there."""
    try:
        found = book.price(provider_key.provider, provider_key.kind.sold_as(provider_key.region, model, ""), now)
    except UnpricedModel:
        return None
    return None if found.flag == "unpriced" and not found.version.startswith("price ") else found
