"""Estimates are adjusted to what the provider reports, only where its counts agree, once, and can be taken back."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from keys.errors import Conflict, Unusable
from reconciliation import adjusting, comparing, running
from reconciliation.models import AdjustmentRun
from reconciliation.reading import Run
from tests.support.reported import MONTH, OPUS, USED, Organisation, at, compared, cost, moment, total
from usage import verification
from usage.models import Adjustment, LedgerEntry

pytestmark = pytest.mark.django_db(transaction=True)
END = MONTH + timedelta(days=30)
LONG, SHORT = USED | {"output_tokens": 500}, USED | {"output_tokens": 200}


@pytest.fixture(autouse=True)
def _soon_after(acme: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is early in the month: fewer days are read."""
    moment(monkeypatch, at(9, 7))


def read(acme: Organisation) -> None:
    assert running.run(acme.admin_key, Run(since=MONTH.date())) == ""


def guessed(acme: Organisation, hour: int, held: str = "1", **changes: Any) -> UUID:
    """A call whose client has disconnected: we guessed 500 tokens of output."""
    return acme.sent(at(5, hour), LONG, estimated=True, status="client_disconnected", held=held, **changes)


def adjust(acme: Organisation, reason: str = "report") -> AdjustmentRun | None:
    return adjusting.adjust(acme.key, MONTH, END, reason=reason, author="finance")


def amount(call: UUID) -> Decimal:
    rows = Adjustment.objects.filter(entry_id=call)
    return LedgerEntry.objects.get(pk=call).cost + sum((row.cost for row in rows), Decimal(0))


def test_the_difference_goes_to_estimates_by_what_was_held(acme: Organisation) -> None:
    acme.both(at(5, 9))
    calls = [guessed(acme, 9, "3"), guessed(acme, 9, "1", by=acme.cast.charlie)]
    for _ in calls:
        acme.counted(at(5, 9), SHORT)
    read(acme)
    difference = 2 * (cost(OPUS, SHORT) - cost(OPUS, LONG))
    shown = adjusting.preview(acme.key, MONTH, END)
    assert [(each.customer.name, each.calls, each.cost) for each in shown.by_customer()] == [
        ("Ours", 1, difference * 3 / 4),
        ("Theirs", 1, difference / 4),
    ]
    assert not Adjustment.objects.exists()
    run = adjust(acme)
    assert run is not None
    assert (run.calls, run.cost, run.charge) == (2, difference, difference)
    assert [amount(call) for call in calls] == [
        cost(OPUS, LONG) + difference * 3 / 4,
        cost(OPUS, LONG) + difference / 4,
    ]
    rows = Adjustment.objects.order_by("id")
    assert {(row.reason, row.author, row.detail["reason"]) for row in rows} == {("reconciliation", "finance", "report")}
    assert sum(row.output_tokens for row in rows) == -600
    assert total(compared(), "difference") == 0
    assert verification.verify() == []


def test_a_second_run_writes_nothing(acme: Organisation) -> None:
    guessed(acme, 9)
    acme.counted(at(5, 9), SHORT)
    read(acme)
    assert adjust(acme) is not None
    assert adjust(acme) is None
    comparing.compare_days(acme.admin_key, [at(5).date()])
    assert adjust(acme) is None
    assert Adjustment.objects.count() == 1


def test_nothing_is_offered_where_counts_differ_or_are_missing(acme: Organisation) -> None:
    guessed(acme, 9)
    acme.counted(at(5, 9), SHORT, requests=2)
    guessed(acme, 12)
    guessed(acme, 15)
    acme.counted(at(5, 15), SHORT, requests=None)
    read(acme)
    assert adjust(acme) is None
    assert not adjusting.offers(acme.key, MONTH, END).exists()


def test_no_call_gets_more_than_was_held_for_it(acme: Organisation) -> None:
    one, other = cost(OPUS, LONG) + Decimal("0.0001"), cost(OPUS, LONG) + 1
    calls = [guessed(acme, 9, str(one)), guessed(acme, 9, str(other))]
    much = USED | {"output_tokens": 5000}
    for _ in calls:
        acme.counted(at(5, 9), much)
    read(acme)
    assert adjust(acme) is not None
    assert [amount(call) for call in calls] == [one, 2 * cost(OPUS, much) - one]


def test_what_fits_nowhere_is_said(acme: Organisation) -> None:
    call = guessed(acme, 9, str(cost(OPUS, LONG)))
    acme.counted(at(5, 9), USED | {"output_tokens": 5000})
    read(acme)
    shown = adjusting.preview(acme.key, MONTH, END)
    assert (shown.changes, shown.left) == ([], cost(OPUS, {"output_tokens": 4500}))
    assert adjust(acme) is None
    assert amount(call) == cost(OPUS, LONG)


def test_an_owner_with_a_mark_up_pays_in_proportion(acme: Organisation) -> None:
    call = guessed(acme, 9, charge=cost(OPUS, LONG) * 2)
    acme.counted(at(5, 9), SHORT)
    read(acme)
    adjust(acme)
    [row] = Adjustment.objects.filter(entry_id=call)
    assert (row.cost, row.charge) == (cost(OPUS, SHORT) - cost(OPUS, LONG), 2 * row.cost)


def test_a_counter_adjustment_takes_a_run_back_once(acme: Organisation) -> None:
    call = guessed(acme, 9)
    acme.counted(at(5, 9), SHORT)
    read(acme)
    run = adjust(acme)
    assert run is not None
    counter = adjusting.take_back(run, reason="wrong report", author="boss")
    assert (counter.undoes, counter.cost) == (run, -run.cost)
    assert amount(call) == cost(OPUS, LONG)
    assert sum(row.output_tokens for row in Adjustment.objects.all()) == 0
    for each in (run, counter):
        with pytest.raises(Conflict):
            adjusting.take_back(each, reason="again", author="boss")
    # It is offered again.
    assert adjust(acme) is not None
    assert amount(call) == cost(OPUS, SHORT)


def test_a_reason_is_needed(acme: Organisation) -> None:
    with pytest.raises(Unusable, match="reason"):
        adjust(acme, " ")


def test_what_was_retained_for_an_interrupted_call_is_given_back(acme: Organisation, db: None) -> None:
    from django.db import connection

    from usage.models import Retained

    call = acme.sent(at(6, 9), LONG, estimated=True, status="interrupted", held="1")
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO usage_retained (id, retained_at, charges) VALUES (%s, now(), '{}')", [call])
    acme.counted(at(6, 9), SHORT)
    read(acme)
    adjust(acme)
    assert not Retained.objects.filter(pk=call).exists()
