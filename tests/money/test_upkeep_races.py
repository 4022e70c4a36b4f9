"""Upkeep while calls run: a task that reaps, expires or gives back holds never deadlocks with a group."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from random import Random

import psycopg
import pytest

from tests.support.asked_arbiter import Arbiter, arbiter, give_credential, settlement
from tests.support.gateway import admin_connection
from tests.support.ledger_rows import make_cast
from usage.arbitration import Admission
from usage.models import Budget, Hold, Limit

pytestmark = pytest.mark.either_server

ROUNDS = 60
UPKEEP = (
    "SELECT usage_reap('0.2 s', 100)",
    "SELECT usage_expire()",
    "SELECT usage_give_back(NULL, '0 s')",
)


@pytest.fixture
def keys(apart):
    cast = make_cast()
    for key in (cast.alice, cast.bob, cast.charlie):
        give_credential(key)
        for period in ("day", "month"):
            Budget.objects.create(amount=10**6, virtual_key=key, period=period)
    Budget.objects.create(amount=10**6, customer=cast.alice.customer, period="hour", rolling=True)
    Budget.objects.create(amount=10**6, team=cast.alice.team, unit="tokens")
    Limit.objects.create(kind="rpm", rate=10**9, customer=cast.alice.customer)
    Limit.objects.create(kind="parallel", rate=10**6, team=cast.alice.team)
    return [cast.alice, cast.bob, cast.charlie]


def call_and_die(keys, seed):
    """Groups of calls that end in every way; now and then the process is gone, and another one goes on."""
    random = Random(seed)
    with admin_connection() as link:
        asked = Arbiter(link)
        asked.start()
        running: list[Admission] = []
        for _ in range(ROUNDS):
            calls = [
                asked.ask(random.choice(keys), expires_seconds=random.choice([None, None, None, 0]))
                for _ in range(random.randint(1, 8))
            ]
            random.shuffle(running)
            at = random.randint(0, len(running))
            try:
                asked.group(calls, [settlement(call) for call in running[:at]], [call.id for call in running[at:][:1]])
                running = running[at + 1 :] + calls
            except psycopg.Error as error:
                if error.sqlstate != "BF001":  # it was declared dead, for it has no heartbeat
                    raise
                asked.start()
                running = []


def upkeep(query):
    with admin_connection() as link:
        for _ in range(ROUNDS * 4):
            link.execute(query)


def test_upkeep_and_groups_never_wait_in_a_circle_and_leave_exact_counters(keys):
    with arbiter() as asked:
        with ThreadPoolExecutor() as threads:
            work = [threads.submit(call_and_die, keys, seed) for seed in range(4)]
            work += [threads.submit(upkeep, query) for query in UPKEEP * 2]
        for each in work:
            each.result()
        asked.one("SELECT usage_reap('0 s', 100)")
        asked.one("SELECT usage_expire()")
        asked.one("SELECT usage_give_back(NULL, '0 s')")
        counted = asked.counters()
        assert counted
        assert all(held == 0 for _, held in counted.values())
        assert asked.one("SELECT sum(running) FROM usage_limitstate") == 0
    assert not Hold.objects.exists()
