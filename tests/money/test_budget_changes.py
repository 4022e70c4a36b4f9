"""Budgets that change while calls come and go, from several processes at once: each call is judged by one state of
things, and charged to it."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.db import connection

from keys.models import Team, VirtualKey
from tests.support.asked_arbiter import Arbiter, arbiter, cast_with_credentials, settlement
from tests.support.gateway import admin_connection
from usage import verification
from usage.arbitration import Admission
from usage.models import Budget, LedgerEntry, Window

pytestmark = pytest.mark.either_server

CHARGED_ELSEWHERE = """
SELECT count(*) FROM usage_ledgerentry e, unnest(e.charges) AS c JOIN usage_budget b ON b.id = c.budget
WHERE b.team_id IS NOT NULL AND b.team_id <> e.team_id
"""


@pytest.fixture
def cast(apart):
    return cast_with_credentials("alice", "bob")


@contextlib.contextmanager
def traffic(*keys: VirtualKey, ceiling: str = "0.5", cost: str = "0.1") -> Iterator[Counter[str]]:
    """Calls of these keys, three a group, from three processes; how they were answered."""
    over, seen, faults = threading.Event(), Counter[str](), list[BaseException]()

    def call(asked: Arbiter) -> None:
        running: list[Admission] = []
        while not over.is_set():
            calls = [asked.ask(random.choice(keys), ceiling) for _ in range(3)]
            ended = [settlement(call, cost) for call in running]
            verdicts = asked.group(calls, ended)
            seen.update(verdicts)
            running = [call for call, verdict in zip(calls, verdicts, strict=True) if verdict == "admitted"]
        asked.group(settlements=[settlement(call, cost) for call in running])

    def work() -> None:
        try:
            with arbiter() as asked:
                call(asked)
        except BaseException as fault:
            faults.append(fault)
            raise

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        yield seen
    finally:
        over.set()
        for worker in workers:
            worker.join()
    assert not faults


def passing(seconds: float) -> Iterator[None]:
    """Turns, for this many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield
        time.sleep(0.01)


def test_each_call_of_a_moving_key_is_charged_to_the_owner_at_its_time(cast):
    other = Team.objects.create(customer=cast.alice.customer, name="Sales")
    for team in (cast.alice.team, other):
        Budget.objects.create(team=team, amount=10**6)
    with traffic(cast.alice, cast.bob) as seen:
        for turn, _ in enumerate(passing(3)):
            VirtualKey.objects.filter(pk=cast.alice.pk).update(team=(cast.alice.team, other)[turn % 2])
    with admin_connection() as link:
        assert link.execute(CHARGED_ELSEWHERE).fetchone() == (0,)
    assert all(window.spent > 0 for window in Window.objects.all())
    assert LedgerEntry.objects.count() == seen["admitted"] > 100
    assert verification.verify() == []


def test_no_admission_passes_an_amount_that_is_raised_and_lowered(cast):
    made = Budget.objects.create(team=cast.alice.team, amount=5)
    with traffic(cast.alice, cast.bob, cost="0.001") as seen:
        for turn, _ in enumerate(passing(3)):
            Budget.objects.filter(pk=made.pk).update(amount=(3, 5)[turn % 2])
            window = Window.objects.filter(budget=made).first()
            # What was admitted before it was lowered is still under way.
            assert window is None or window.spent + window.held <= 5
    assert seen["budget"] > 0
    assert verification.verify() == []


def test_a_budget_that_is_deleted_and_made_again_keeps_exact_counters(cast):
    with traffic(cast.alice, cast.bob) as seen:
        for _ in passing(3):
            made = Budget.objects.create(team=cast.alice.team, amount=1)
            time.sleep(0.05)
            made.delete_softly()
    assert seen["admitted"] > 100
    assert all(window.held == 0 for window in Window.objects.all())
    assert verification.verify() == []
    connection.close()


def test_rolling_windows_of_several_processes_are_the_same(cast):
    Budget.objects.create(team=cast.alice.team, amount=10**6, period="minute", rolling=True)
    with traffic(cast.alice):
        for _ in passing(1):
            pass
    (window,) = Window.objects.all()
    assert window.spent == sum((row.cost for row in LedgerEntry.objects.all()), Decimal(0))
