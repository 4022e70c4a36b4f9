"""Reports are read to the last digit and page, however they come, and an error says what to do."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from keys.errors import Unusable
from reconciliation import admin_keys, pacing, running
from reconciliation.models import AdminKey, CostRow, Read, UsageRow
from reconciliation.reading import DayRead, Run
from reconciliation.reports.rows import Surprise, cents
from tests.support.reported import (
    MONTH,
    OPUS,
    READ_AT,
    SONNET,
    USED,
    Organisation,
    at,
    compared,
    cost,
    moment,
    total,
)
from tests.support.reports_provider import Refused

pytestmark = pytest.mark.django_db(transaction=True)
HIPAA = "This endpoint is not available to organizations that are HIPAA-ready"


def read(acme: Organisation, since: datetime = MONTH) -> tuple[str, list[DayRead]]:
    days: list[DayRead] = []
    return running.run(acme.admin_key, Run(since=since.date(), tell=days.append)), days


def state(acme: Organisation) -> AdminKey:
    return AdminKey.objects.get(pk=acme.admin_key.pk)


def test_cents_keep_all_their_digits() -> None:
    assert cents("123.45") == Decimal("1.2345")
    assert cents("1234567890.12345678901234567890123456") == Decimal("12345678.9012345678901234567890123456")
    assert cents("-0.5000") == Decimal("-0.005")


@pytest.mark.parametrize("given", [12.5, None, "1e400", "NaN", "Infinity", "ten", "", True, "0." + "1" * 40])
def test_an_amount_that_is_not_exact_is_refused(given: object) -> None:
    with pytest.raises(Surprise):
        cents(given)


def test_rows_of_many_pages_arrive_once_each_and_in_any_order(
    acme: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciliation.reports.analytics.ROWS", "3")
    for number in range(10):
        acme.both(at(3, number), USED | {"output_tokens": 1000 - number})
        acme.both(at(3, number), model=SONNET)
    assert read(acme, at(3))[0] == ""
    asked = [dict(query) for path, query in acme.reports.queries if path.endswith("analytics/usage")]
    assert len([query for query in asked if "page" in query]) >= 6
    assert all(query["order_by"] == "time" for query in asked if "time_bucket_width" in query)
    assert UsageRow.objects.count() == 20
    assert total(compared(), "difference") == 0
    assert sum(row.our_requests for row in compared()) == 20


def test_pages_of_different_states_are_read_again(acme: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciliation.reports.analytics.ROWS", "2")
    for number in range(5):
        acme.both(at(3, number))
    acme.reports.moves = 1
    assert read(acme, at(3))[0] == ""
    assert UsageRow.objects.count() == 5
    acme.reports.moves = 1000
    acme.both(at(2, 5))
    acme.both(at(2, 6))
    acme.both(at(2, 7))
    assert "refreshed its data each time" in read(acme, at(2))[0]


def test_hours_that_the_provider_has_not_refreshed_yet_are_left_for_later(
    acme: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.both(at(30, 8))
    acme.sent(at(30, 12))
    acme.reports.refreshed_at = at(30, 12)
    _, days = read(acme, at(30))
    assert any(day.waiting for day in days)
    assert Read.objects.filter(start__gte=at(30, 12)).count() == 0
    assert [row.start for row in compared()] == [at(30, 8)]
    acme.counted(at(30, 12))
    acme.reports.refreshed_at = READ_AT
    moment(monkeypatch, READ_AT + timedelta(hours=1))
    read(acme, at(30))
    assert [row.start for row in compared()] == [at(30, 8), at(30, 12)]


def test_each_read_is_kept_and_rows_only_of_those_that_differ(
    acme: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.both(at(20, 8))
    read(acme, at(20))
    first = Read.objects.get(report="usage", start=at(20, 8))
    assert (first.same_as, first.usagerows.count()) == (None, 1)
    moment(monkeypatch, READ_AT + timedelta(hours=25))
    read(acme, at(20))
    again = Read.objects.filter(report="usage", start=at(20, 8)).latest("id")
    assert (again.same_as, again.usagerows.count(), again.refreshed_at) == (first, 0, acme.reports.refreshed_at)
    with pytest.raises(Exception, match="append-only"):
        Read.objects.filter(pk=first.pk).update(digest="x")
    with pytest.raises(Exception, match="append-only"):
        UsageRow.objects.all().delete()


@pytest.mark.long
def test_hours_are_read_for_35_days_and_never_after_that(acme: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.both(at(20, 8))
    counts = []
    for now in (READ_AT, at(20) + timedelta(days=34), at(20) + timedelta(days=37), at(20) + timedelta(days=60)):
        moment(monkeypatch, now)
        acme.reports.refreshed_at = now
        running.run(acme.admin_key, Run(since=at(20).date(), ends_at=None))
        counts.append(Read.objects.filter(start=at(20, 8)).count())
    # Usage and cost each: read, read again, read at last, and left alone.
    assert counts == [2, 4, 6, 6]
    before = len(acme.reports.queries)
    acme.reports.items[0].tokens = USED | {"output_tokens": 9}
    running.run(acme.admin_key, Run(since=at(20).date()))
    starts = {dict(query).get("starting_at", "")[:10] for _, query in acme.reports.queries[before:]}
    assert "2026-11-20" not in starts


@pytest.mark.parametrize("why", ["hipaa", "scope"])
def test_older_reports_replace_those_that_can_not_be_read(acme: Organisation, why: str) -> None:
    acme.reports.hipaa = why == "hipaa"
    acme.reports.scopes = ("read:usage",) if why == "scope" else acme.reports.scopes
    for day in (3, 4):
        acme.both(at(day, 9), paid=Decimal("0.9"))
        acme.both(at(day, 15), USED | {"output_tokens": 333}, paid=Decimal("0.9"))
    assert read(acme)[0] == ""
    assert state(acme).kind == "older"
    assert (HIPAA if why == "hipaa" else "read:analytics") in state(acme).problem
    rows = compared()
    paid = 2 * (cost(OPUS, USED) + cost(OPUS, USED | {"output_tokens": 333})) * Decimal("0.9")
    # Costs are by day there. Spread over the hours, they sum to the day exactly.
    assert total(rows, "theirs") == paid
    assert len(rows) == 4
    assert {row.their_requests for row in rows} == {None}
    assert {row.adjustable for row in rows} == {0}
    assert total(rows, "price_book") == -paid / 9
    assert abs(total(rows, "unexplained")) < Decimal("1e-20")


def test_a_key_without_any_scope_says_which_is_missing(acme: Organisation) -> None:
    acme.reports.scopes = ()
    problem, _ = read(acme)
    assert "403" in problem
    assert "read:analytics" in problem
    assert state(acme).problem == problem


def test_a_429_is_waited_for(acme: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("reconciliation.pacing.time.sleep", waits.append)
    acme.both(at(30, 8))
    slower = Refused(429, "slow down", (("retry-after", "7"),))
    acme.reports.faults = [slower, slower]
    assert read(acme, at(30))[0] == ""
    assert len([wait for wait in waits if 6 < wait <= 20]) >= 2


def test_a_429_that_takes_too_long_leaves_the_rest_to_the_next_run(acme: Organisation) -> None:
    acme.reports.faults = [Refused(429, "come back tomorrow", (("retry-after", "86400"),))]
    problem, days = read(acme, at(30))
    assert "takes no more requests" in problem
    assert days == []
    # The next request waits, in every process.
    row = state(acme)
    assert row.next_at is not None
    assert row.claimed_until is None
    assert "takes no more requests" in admin_keys.test(acme.admin_key)


def test_requests_keep_to_a_rate_in_all_processes(acme: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("reconciliation.pacing.time.sleep", waits.append)
    AdminKey.objects.update(requests_a_minute=6, next_at=None)
    for _ in range(4):
        assert pacing.wait_for_turn(acme.admin_key, 60)
    # Nothing sleeps here, so each waits ten seconds longer.
    assert [round(wait, -1) for wait in map(float, waits)] == [10, 20, 30]
    assert not pacing.wait_for_turn(acme.admin_key, 5)


def test_one_worker_reads_at_a_time(acme: Organisation) -> None:
    with pacing.claimed(acme.admin_key) as may:
        assert may
        with pytest.raises(running.Busy):
            read(acme)
    assert read(acme, at(30))[0] == ""
    AdminKey.objects.update(active=False)
    with pytest.raises(running.Busy):
        read(acme)


def test_no_message_has_a_part_of_a_secret(acme: Organisation) -> None:
    acme.reports.faults = [Refused(500, f"the key {acme.reports.secret} is odd")] * 3
    problem, _ = read(acme)
    assert "500" in problem
    assert acme.reports.secret[:20] not in problem


def test_an_admin_key_is_stored_encrypted_and_tested(acme: Organisation) -> None:
    assert acme.reports.secret.encode() not in bytes(acme.admin_key.secret_ciphertext)
    assert admin_keys.test(acme.admin_key) == "it reads the Usage and Cost Analytics API"
    admin_keys.save(acme.admin_key, "sk-ant-admin01-wrong")
    assert "401" in admin_keys.test(acme.admin_key)
    acme.admin_key.base_url = "http://127.0.0.1:1"
    with pytest.raises(Unusable, match="type the secret again"):
        admin_keys.save(acme.admin_key)


def test_openai_is_compared_too(acme_openai: Organisation) -> None:
    acme = acme_openai
    gpt, used = "gpt-5", {"input_tokens": 1000, "output_tokens": 300, "cache_read_input_tokens": 70}
    acme.both(at(3, 9), used, gpt)
    acme.both(at(3, 15), used, gpt)
    acme.counted(at(3, 16), used, gpt, requests=2)
    assert read(acme)[0] == ""
    assert state(acme).kind == "openai"
    rows = compared()
    assert [(row.their_requests, row.our_requests, row.unsent_requests) for row in rows] == [
        (1, 1, 0),
        (1, 1, 0),
        (2, 0, 2),
    ]
    # A day's costs are spread by tokens: all hours have the same here.
    one = sum(acme.reports.items[0].paid.values())
    assert total(rows, "theirs") == 3 * one
    assert total(rows, "other_use") + total(rows, "unexplained") + total(rows, "price_book") == one
    assert CostRow.objects.filter(token_type="").count() == 0
