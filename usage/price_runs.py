"""Which calls a run over recorded prices is about, and what it found, in words: for commands."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Q

from keys import patterns
from keys.errors import Unusable
from keys.models import Customer
from usage import archived, export, moments, request_ids
from usage.repricing import ModelSum, Outcome, Rows


@dataclass(frozen=True, slots=True)
class Which:
    """Calls that were admitted from `since` until before `until`: of a customer or of all, of a model or pattern."""

    since: datetime
    until: datetime | None = None
    customer: Customer | None = None
    model: str = ""

    def rows(self, rows: Rows | None = None) -> Rows:
        """Those of the rows, oldest first; of the whole ledger, if none are given.

        Raises:
            Unusable: the range ends before it starts, or has archived calls.
        """
        if self.until is not None and self.until <= self.since:
            raise Unusable("the range ends before it starts: choose a later end")
        archived.refuse(self.since, self.until, "archived calls can't be priced again")
        found = export.Range(self.since, self.until).rows()
        if rows is not None:
            found = found & rows.order_by()
        conditions = Q()
        if self.customer is not None:
            conditions &= Q(customer=self.customer)
        if self.model:
            conditions &= Q(model__iregex=patterns.as_regex(self.model))
        return found.filter(conditions)


def add_arguments(parser: ArgumentParser) -> None:
    """The options that say which calls."""
    parser.add_argument(
        "--since", metavar="T", required=True, help="calls from this time on (ISO 8601; UTC unless it has an offset)"
    )
    parser.add_argument("--until", metavar="T", help="only calls before this time; default: all until now")
    parser.add_argument("--customer", metavar="NAME", help="only the calls of this customer")
    parser.add_argument("--model", metavar="PATTERN", default="", help="only calls of this model or pattern")


def which(options: dict[str, Any]) -> Which:
    """The calls that a command's options say.

    Raises:
        Unusable: a time can't be read, or there is no such customer.
    """
    try:
        since, until = moments.parse(options["since"]), options["until"] and moments.parse(options["until"])
    except ValueError as error:
        raise Unusable(str(error)) from None
    customer = None
    if options["customer"] is not None:
        customer = Customer.objects.filter(name=options["customer"]).first()
        if customer is None:
            raise Unusable(f"there is no customer “{options['customer']}”")
    return Which(since, until or None, customer, options["model"])


def in_words(outcome: Outcome) -> Iterator[str]:
    """What a run found: a line for each model, the sum, and what was left out. Amounts are exact."""
    yield f"{outcome.read:,} calls read."
    for model, found in outcome.by_model():
        yield f"{model or 'no model'}: {change(found)}"
    yield f"Sum: {change(outcome.total)}"
    if outcome.closed:
        yield f"{outcome.closed:,} calls are of closed months, and stay as they are."
    if outcome.irregular:
        named = ", ".join(request_ids.request_id(row.pk) for row in outcome.named)
        left_out = f"{outcome.irregular:,} calls are left out"
        yield f"{left_out}, whose amounts don't follow from their tokens or which have no price: {named}"


def change(found: ModelSum) -> str:
    """The sums before and after, of what providers charge and, where it differs, of what owners pay."""
    old, new = found.old, found.new
    said = f"{found.calls:,} calls, cost {sums(old.cost, new.cost)}"
    if (old.cost, new.cost) != (old.owed, new.owed):
        said += f"; charge {sums(old.owed, new.owed)}"
    return said


def sums(old: Decimal, new: Decimal) -> str:
    """Two sums and their difference, in USD."""
    return f"${exact(old)} → ${exact(new)} ({'+' if new >= old else ''}{exact(new - old)})"


def exact(amount: Decimal) -> str:
    """An amount with all its digits."""
    return f"{amount.normalize():f}"
