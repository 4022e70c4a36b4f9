"""The months of customers: which are closed, and what the open ones amount to by the roll-ups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from django.core.paginator import Page, Paginator
from django.db import connection
from django.db.models import QuerySet

from billing import months
from billing.models import CloseRequest, Closing, Particulars, Statement
from keys.models import Customer
from usage import moments

# Customers on a page.
LINES = 50
# Whole days (UTC) are read from the sums of owners' days; the edges of a month in another zone, from quarters of hours.
AMOUNTS = """
SELECT v.customer, coalesce((
        SELECT sum(d.cost) FROM usage_ownerday d
        WHERE d.owner = v.customer * 4 AND d.day >= v.first_day AND d.day < v.last_day), 0)
    + coalesce((
        SELECT sum(coalesce(r.charge, r.cost)) FROM usage_rollup r
        WHERE r.customer_id = v.customer
            AND (r.bucket >= v.since AND r.bucket < v.first_midnight
                OR r.bucket >= v.last_midnight AND r.bucket < v.until)
    ), 0)
FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::date[], %s::date[], %s::timestamptz[],
    %s::timestamptz[]) AS v (customer, since, until, first_day, last_day, first_midnight, last_midnight)
"""


@dataclass(slots=True)
class Line:
    """A customer's month.

    Attributes:
        state: `closed`, `open`, `running` (it isn't over), `before` (the first statement is of a later month), or
            `waiting` for a second person.
        documents: of a closed month.
        amount: USD of an open or running month, by the roll-ups.
    """

    customer: Customer
    state: str
    particulars: Particulars | None = None
    documents: list[Statement] = field(default_factory=list)
    amount: Decimal | None = None


def page(customers: QuerySet[Customer], statements: QuerySet[Statement], month: date, number: int) -> Page[Customer]:
    """A page of customers; its `lines` are their months.

    Args:
        statements: the documents that the person may see.
    """
    part: Page[Customer] = Paginator(customers.order_by("name"), LINES).get_page(number)
    vars(part)["lines"] = lines(list(part.object_list), statements, month)
    return part


def lines(customers: list[Customer], statements: QuerySet[Statement], month: date) -> list[Line]:
    """The months of some customers, in a fixed number of queries."""
    now = moments.now()
    particulars = {
        row.customer_id: row for row in Particulars.objects.select_related("customer").filter(customer__in=customers)
    }
    issued = defaultdict(list)
    for document in statements.filter(customer__in=customers, month=month).select_related("team__customer"):
        issued[document.customer_id].append(document)
    closed = dict(Closing.objects.filter(customer__in=customers, month=month).values_list("customer", "ends_at"))
    last = dict(Closing.objects.filter(customer__in=customers).order_by("ends_at").values_list("customer", "ends_at"))
    waiting = set(CloseRequest.objects.filter(customer__in=customers, month=month).values_list("customer", flat=True))
    found, spans = [], {}
    for customer in customers:
        own = particulars.get(customer.pk)
        zone = own.zone if own else customer.time_zone
        since, until = months.start(month, zone), months.end(month, zone)
        if customer.pk in closed:
            state = "closed"
        elif customer.pk in last and until <= last[customer.pk]:
            state = "before"
        else:
            state = "running" if until > now else "waiting" if customer.pk in waiting else "open"
            spans[customer.pk] = (max(since, last.get(customer.pk, since)), until)
        found.append(Line(customer, state, own, sorted(issued[customer.pk], key=lambda each: each.number)))
    amounts = amounts_of(spans)
    for line in found:
        line.amount = amounts.get(line.customer.pk)
    return found


def amounts_of(spans: Mapping[int, tuple[datetime, datetime]]) -> dict[int, Decimal]:
    """What customers owe for a time, in USD, by the roll-ups."""
    if not spans:
        return {}
    columns: Iterable[tuple[object, ...]] = zip(
        *((customer, since, until, *days(since, until)) for customer, (since, until) in spans.items()), strict=True
    )
    with connection.cursor() as cursor:
        cursor.execute(AMOUNTS, [list(column) for column in columns])
        return dict(cursor.fetchall())


def days(since: datetime, until: datetime) -> tuple[date, date, datetime, datetime]:
    """The whole days (UTC) of a time, the last one excluded, and their first moments."""
    first = since.astimezone(UTC).date()
    if midnight(first) < since:
        first += timedelta(days=1)
    last = until.astimezone(UTC).date()
    return first, last, midnight(first), midnight(last)


def midnight(day: date) -> datetime:
    """The first moment of a day in UTC."""
    return datetime.combine(day, time(), UTC)
