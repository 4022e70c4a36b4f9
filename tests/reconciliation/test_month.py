"""A month in which every cause of a difference is planted is explained to the last digit, cause by cause."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from reconciliation import running
from reconciliation.comparisons import CAUSES, DatedBy
from reconciliation.models import Comparison
from reconciliation.reading import Run
from tests.support.reported import (
    HAIKU,
    MONTH,
    OPUS,
    READ_AT,
    SONNET,
    USED,
    Organisation,
    amounts,
    at,
    compared,
    cost,
    moment,
    total,
)

pytestmark = pytest.mark.django_db(transaction=True)
ODD = Decimal("1.2345678901234567")


def read(acme: Organisation) -> None:
    assert running.run(acme.admin_key, Run(since=MONTH.date())) == ""


def plant(acme: Organisation) -> dict[str, Decimal]:
    """Differences of every kind, and what each of them is worth."""
    planted = dict.fromkeys((*CAUSES, "unexplained"), Decimal(0))
    for day in range(1, 31):
        acme.both(at(day, 9))
        acme.both(at(day, 14), model=HAIKU)
    # Another program has the key.
    acme.counted(at(3, 9), {"input_tokens": 777, "output_tokens": 33}, requests=3)
    planted["other_use"] += cost(OPUS, {"input_tokens": 777, "output_tokens": 33})
    # A client has disconnected: we guessed 500 tokens of output, and it were 217.
    acme.sent(at(5, 11), USED | {"output_tokens": 500}, estimated=True, status="client_disconnected")
    acme.counted(at(5, 11), USED | {"output_tokens": 217})
    planted["estimates"] += cost(OPUS, USED | {"output_tokens": 217}) - cost(OPUS, USED | {"output_tokens": 500})
    # A process has died before its call reached the provider.
    acme.sent(at(6, 9), estimated=True, status="interrupted")
    planted["estimates"] -= cost(OPUS, USED)
    # A call crosses an hour. The provider counts it to its end.
    acme.sent(at(8, 10, 59, 59), ended_at=at(8, 11, 0, 30))
    acme.counted(at(8, 11))
    # A contract gives 15 % on one model.
    for day in (12, 13):
        acme.both(at(day, 16), model=SONNET, paid=Decimal("0.85"))
        planted["discount"] -= cost(SONNET, USED, Decimal("0.15"))
    # Their list price isn't ours.
    acme.both(at(15, 17), model=SONNET, paid=Decimal(2), at_list=Decimal(2))
    planted["price_book"] += cost(SONNET, USED)
    # Web searches cost what we think, and a container costs what we don't know of.
    acme.sent(at(17, 18), web_search_requests=3, cost=cost(OPUS, USED) + Decimal("0.03"))
    acme.counted(at(17, 18), fees={"web_search": Decimal("0.03"), "code_execution": ODD})
    planted["fees"] += ODD
    # Nothing explains this.
    acme.sent(at(20, 19))
    acme.counted(at(20, 19), USED | {"input_tokens": USED["input_tokens"] + 11})
    planted["unexplained"] += cost(OPUS, {"input_tokens": 11})
    # What isn't ours: a key of others, and the Console.
    acme.counted(at(21), api_key_id="apikey_others", requests=5)
    acme.counted(at(22), api_key_id=None)
    return planted


def test_every_cause_of_a_month_is_explained_to_the_last_digit(
    acme: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = plant(acme)
    read(acme)
    # The provider changes its figures afterwards.
    late = acme.reports.items[0]
    assert late.hour == at(1, 9)
    late.tokens = USED | {"output_tokens": 1300}
    late.paid = late.listed = amounts(OPUS, late.tokens)
    planted["late_revision"] += cost(OPUS, {"output_tokens": 1000})
    moment(monkeypatch, READ_AT + timedelta(days=1, hours=1))
    read(acme)

    rows = compared()
    found = {name: total(rows, name) for name in planted}
    assert found == planted
    assert total(rows, "difference") == sum(planted.values())
    for row in rows:
        assert row.difference == sum(getattr(row, name) for name in planted), row
    # Hour by hour, not only in sum.
    assert [row.hour_edges for row in compared(start__day=8, start__hour__in=(10, 11))] == [
        -cost(OPUS, USED),
        cost(OPUS, USED),
    ]
    assert {row.dated_by for row in compared(start__day=8)} == {DatedBy.COMPLETION}
    assert {row.dated_by for row in compared(start__day=9)} == {DatedBy.ADMISSION}
    assert [(row.start, row.unsent_requests) for row in rows if row.unsent_requests] == [(at(3, 9), 3)]


def test_what_is_not_ours_stands_apart(acme: Organisation) -> None:
    acme.counted(at(21), api_key_id="apikey_others", requests=5)
    acme.counted(at(22), api_key_id=None)
    read(acme)
    outside = Comparison.objects.filter(provider_key=None).order_by("start")
    assert [(row.api_key_id, row.their_requests, row.theirs) for row in outside] == [
        ("apikey_others", 5, cost(OPUS, USED)),
        ("", 1, cost(OPUS, USED)),
    ]
    assert compared() == []


def test_dated_names_and_aliases_are_one_model(acme: Organisation) -> None:
    acme.sent(at(4), model="claude-haiku-4-5-20251001")
    acme.counted(at(4), model=HAIKU)
    read(acme)
    [row] = compared()
    assert (row.model, row.their_requests, row.our_requests) == (HAIKU, 1, 1)
    assert row.difference == 0


def test_comparing_again_gives_the_same_rows(acme: Organisation) -> None:
    plant(acme)
    read(acme)
    before = list(Comparison.objects.order_by("pk").values())
    from reconciliation import comparing

    comparing.compare_days(acme.admin_key, {at(day).date() for day in range(1, 31)})
    assert list(Comparison.objects.order_by("pk").values()) == before
