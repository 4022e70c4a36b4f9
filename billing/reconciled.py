"""What providers report for the period of a document, beside the ledger, for its evidence pack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC
from decimal import Decimal
from typing import Any

from django.db.models import Sum
from django.db.models.functions import TruncDate

from billing.models import Statement
from reconciliation.comparisons import CAUSES, Comparison
from reconciliation.reports.rows import EXACT
from usage.questions import NotWholeYet, Question, ask

MONEY = ("theirs", "ours", *CAUSES, "unexplained")
COUNTS = ("their_requests", "our_requests", "unsent_requests")
COLUMNS = (
    *("day", "provider_key_id", "provider_key", "used_by", "model", "mode", *COUNTS, "theirs", "ours", "difference"),
    *CAUSES,
    "unexplained",
)
ALONE, SHARED, UNKNOWN = "this customer only", "several customers", "not known"


def rows(statement: Statement) -> Iterator[list[Any]]:
    """The comparisons of the provider keys that answered the customer's calls, by day (UTC), model and mode."""
    used_by = uses(statement)
    closing = statement.closing
    found: Any = (
        Comparison.objects.filter(provider_key__in=used_by, start__gte=closing.starts_at, start__lt=closing.ends_at)
        .order_by()
        .values("provider_key_id", "provider_key__name", "model", "mode", day=TruncDate("start", tzinfo=UTC))
        .annotate(**{f"sum_{name}": Sum(name) for name in (*MONEY, *COUNTS)})
        .order_by("day", "provider_key_id", "model", "mode")
    )
    for each in found:
        money = {name: each[f"sum_{name}"] or Decimal(0) for name in MONEY}
        yield [
            *(each["day"], each["provider_key_id"], each["provider_key__name"], used_by[each["provider_key_id"]]),
            *(each["model"], each["mode"], *(each[f"sum_{name}"] for name in COUNTS)),
            *map(exact, (money["theirs"], money["ours"], EXACT.subtract(money["theirs"], money["ours"]))),
            *(exact(money[name]) for name in (*CAUSES, "unexplained")),
        ]


def exact(amount: Decimal) -> str:
    """All digits of an amount, without zeros at the end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def uses(statement: Statement) -> dict[int, str]:
    """The provider keys that answered the customer's calls in the period, and whether other customers used them, too:
    a provider reports by key and not by customer."""
    closing = statement.closing
    question = Question(
        closing.starts_at, closing.ends_at, by=("provider_key", "customer"), measures=("calls",), most_rows=None
    )
    try:
        lines = ask(question).lines
    except NotWholeYet:
        pks = Comparison.objects.filter(start__gte=closing.starts_at, start__lt=closing.ends_at)
        return dict.fromkeys(pks.values_list("provider_key_id", flat=True).distinct(), UNKNOWN)
    customers: dict[int, set[int]] = defaultdict(set)
    for line in lines:
        provider_key, customer = line.group
        if provider_key is not None:
            customers[provider_key].add(customer)
    return {
        key: ALONE if len(those) == 1 else SHARED for key, those in customers.items() if statement.customer_id in those
    }
