"""Which rows documents cover: each row once, whatever is closed, credited, corrected and settled meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections
from django.db.models import Min
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import covers, credit_notes, months, verification
from billing.models import Closing, Issuer, Statement
from keys.errors import Unusable
from keys.models import Customer, VirtualKey
from tests.support.ledger_rows import empty_ledger, make_entry
from tests.support.statement_cast import bill, called, close, corrected, ledger_sum, make_issuer, no_files
from usage.models import Adjustment, LedgerEntry
from usage.tokens import TokenCounts

pytestmark = pytest.mark.django_db(transaction=True)

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(("call", "late", "correct", "credit", "close")), st.integers(0, 9)), max_size=14
)


@settings(max_examples=12)
@given(OPERATIONS)
def test_statements_credit_notes_and_what_is_open_are_the_ledger(operations: list[tuple[str, int]]) -> None:
    empty_ledger()
    number = Issuer.objects.count()
    customer = Customer.objects.create(name=f"c{number}")
    key = VirtualKey.objects.create(name="k", customer=customer)
    bill(customer, make_issuer(prefix=f"P{number}"))
    month, calls = date(2025, 1, 1), list[Any]()
    with settling(customer, key) as settled:
        for kind, chosen in operations:
            at = datetime(month.year, month.month, 3 + chosen, tzinfo=UTC)
            if kind == "call":
                calls.append(called(key, at=at, used=TokenCounts(input_tokens=chosen * 7 + 1, output_tokens=chosen)))
            elif kind == "late":
                calls.append(called(key, at=at - timedelta(days=40 * (chosen % 3))))
            elif calls and kind == "correct":
                corrected(calls[chosen % len(calls)], f"{(chosen - 6) / 1000}")
            elif kind == "close":
                with suppress(Unusable):
                    close(customer, month, leave_earlier=True, lease=timedelta(seconds=0.1))
                month = months.following(month)
            elif closed := Closing.objects.filter(customer=customer).order_by("month").first():
                with suppress(Unusable):
                    credit_notes.issue(closed, reason="r", by="b", make_files=no_files)
    assert settled
    issued = list(Statement.objects.filter(customer=customer))
    begins = Closing.objects.filter(customer=customer).aggregate(first=Min("starts_at"))["first"]
    below = str(covers.horizon()[1])
    open_since = max(
        (each.ends_at for each in Closing.objects.filter(customer=customer)), default=datetime(2024, 1, 1, tzinfo=UTC)
    )
    rest = covers.of_closing(customer.pk, open_since, datetime(2030, 1, 1, tzinfo=UTC), below)
    before = ledger_sum(customer) if begins is None else ledger_since(customer, begins)
    found = sum((each.total_usd for each in issued), Decimal(0)) + covers.total(rest).owed
    assert found == before
    faults = [fault for each in issued for fault in verification.verify(each)]
    assert faults == verification.verify_covers() == []


def ledger_since(customer: Customer, begins: datetime) -> Decimal:
    """The ledger's sum of calls from a time on."""
    rows = list(LedgerEntry.objects.filter(customer=customer, admitted_at__gte=begins))
    changes = Adjustment.objects.filter(entry_id__in=[row.pk for row in rows])
    return sum((row.owed for row in rows), Decimal(0)) + sum((one.owed for one in changes), Decimal(0))


@contextmanager
def settling(customer: Customer, key: VirtualKey) -> Iterator[list[int]]:
    """Calls of all months that end in transactions of their own meanwhile."""
    ending, done = threading.Event(), list[int]()

    def work() -> None:
        apart = connections.create_connection("default")
        apart.set_autocommit(False)
        number = 0
        while not ending.is_set() or not done:
            number += 1
            at = datetime(2025, 1 + number % 8, 9, tzinfo=UTC)
            make_entry(key, at, using=apart, cost=Decimal(number) / 10_000)
            ending.wait(0.005)
            apart.commit()
            done.append(number)
        apart.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        ending.set()
        thread.join()
