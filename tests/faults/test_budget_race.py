"""A budget for about a thousand calls, four processes, and 400 callers who try again when they are refused: at no
moment is more spent and held than the budget allows, and in the end less is left than one call's worst case."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

import aiohttp
import psycopg
import pytest
from django.db import DatabaseError, connection

from tests.support.fake_provider import End, whole
from tests.support.gateway import MODEL, Web, admin_connection, ask, issue, message
from usage import ledger, verification
from usage.models import Budget, Hold, LedgerEntry, Price, Retained, Window

PROCESSES = 4
CALLERS = 400
CALLS = 1000
LEASE = 2
MAX_TOKENS = 200
PRICE = Decimal(1000)  # USD for a million output tokens; input is free
WORST = PRICE * MAX_TOKENS / 1_000_000
LIKELY = WORST / 4
# The holds of a dead process's calls are given back after this time.
RETAINED = timedelta(seconds=4 * LEASE)
KILLS = 10

pytestmark = pytest.mark.slow


@pytest.fixture
def web(served, served_database):
    """Four web processes of this test alone."""
    web = Web(PROCESSES, lease_seconds=LEASE, log_level="ERROR")
    try:
        web.start()
        yield web
    finally:
        for process in web.processes:
            process.send_signal(signal.SIGCONT)
        web.close()


@pytest.fixture
def key(served, upstream):
    """A key whose team has a budget for about a thousand calls, and whose customer has more."""
    alice = issue(upstream)
    Price.objects.filter(model=MODEL).delete()
    Price.objects.create(model=MODEL, input=0, output=PRICE, cache_read=0, cache_write_5m=0, cache_write_1h=0)
    Budget.objects.create(team=alice.team, amount=CALLS * LIKELY)
    Budget.objects.create(customer=alice.virtual_key.customer, amount=10 * CALLS * LIKELY, period="year")
    yield alice.key
    Price.objects.filter(model=MODEL).delete()


def answer(seen):
    """A call takes up to 50 ms and uses up to half of what it may."""
    return [random.uniform(0, 0.05), *whole(200, message(output_tokens=random.randint(1, MAX_TOKENS // 2)))]


def answer_or_fail(seen):
    """Half of the calls fail, in one of several ways."""
    kind = random.randrange(8)
    if kind < 4:
        return answer(seen)
    if kind == 4:
        return whole(500, b'{"type":"error","error":{"type":"api_error","message":"x"}}')
    if kind == 5:
        return whole(400, b'{"type":"error","error":{"type":"invalid_request_error","message":"x"}}')
    return [0.01, End.RESET if kind == 6 else End.CLOSE]


@dataclass
class Sampler:
    """Looks at the team's window all the while, on a connection of its own."""

    over: threading.Event = field(default_factory=threading.Event)
    samples: int = 0
    most: Decimal = Decimal(0)
    faults: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Run until it is over, also while the database fails."""
        while not self.over.is_set():
            with contextlib.suppress(psycopg.OperationalError), admin_connection() as link:
                while not self.over.is_set():
                    self._look(link)
                    time.sleep(0.002)
            time.sleep(0.05)

    def _look(self, link) -> None:
        rows = link.execute(
            "SELECT w.spent, w.held, b.amount FROM usage_window w JOIN usage_budget b ON b.id = w.budget_id"
            " ORDER BY b.id"
        ).fetchall()
        for spent, held, amount in rows:
            self.samples += 1
            if spent + held > amount or held < 0:
                self.faults.append(f"{spent} + {held} of {amount}")
        if rows:
            self.most = max(self.most, sum(rows[0][:2]))


@contextlib.contextmanager
def sampled() -> Iterator[Sampler]:
    sampler = Sampler()
    thread = threading.Thread(target=sampler.run)
    thread.start()
    try:
        yield sampler
    finally:
        sampler.over.set()
        thread.join()


async def call_again_and_again(session, web, key, over, seen) -> None:
    body = json.dumps(ask(max_tokens=MAX_TOKENS)).encode()
    while not over.is_set():
        try:
            async with session.post(web.url + "/v1/messages", data=body, headers={"x-api-key": key}) as got:
                await got.read()
                seen[got.status] += 1
                pause = random.uniform(0.1, 0.5) if got.status == 429 else 0.0
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            seen[type(error).__name__] += 1
            pause = 0.1
        await asyncio.sleep(pause)


def spent_up() -> bool:
    """Nothing is held, and no call fits any more. For a thread: it leaves no connection behind."""
    try:
        ledger.give_back(RETAINED)
        window = team_window()
        return window is not None and window.held == 0 and CALLS * LIKELY - window.spent < WORST
    except DatabaseError:
        return False
    finally:
        connection.close()


def team_window() -> Window | None:
    """The window of the budget that is to be spent."""
    return Window.objects.filter(budget__team__isnull=False).first()


async def race(web, key, trouble: Callable[[], None] | None, seconds: float) -> Counter[object]:
    """Callers who never give up, until the budget is spent, and trouble once a second meanwhile."""
    over, seen = asyncio.Event(), Counter[object]()
    connector = aiohttp.TCPConnector(limit=0, force_close=trouble is not None)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        callers = [asyncio.ensure_future(call_again_and_again(session, web, key, over, seen)) for _ in range(CALLERS)]
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(spent_up):
            assert time.monotonic() < deadline, f"not spent in time: {dict(seen)}"
            if trouble is not None:
                await asyncio.to_thread(trouble)
            await asyncio.sleep(1 if trouble else 0.2)
        over.set()
        await asyncio.gather(*callers)
    return seen


def deadlocks() -> int:
    """How many there were since the database's statistics began."""
    with admin_connection() as link:
        found = link.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert found is not None
    return int(found[0])


def run(web, key, trouble=None, seconds=120.0) -> Counter[object]:
    before = deadlocks()
    with sampled() as sampler:
        seen = asyncio.run(race(web, key, trouble, seconds))
    connection.close()
    deadline = time.monotonic() + 4 * LEASE
    while (Hold.objects.exists() or Retained.objects.exists()) and time.monotonic() < deadline:
        ledger.give_back(timedelta(0))
        time.sleep(0.1)
    window = team_window()
    assert window is not None
    rows = LedgerEntry.objects.count()
    print(
        f"{rows} rows, {sampler.samples} samples, at most {sampler.most} of {CALLS * LIKELY} spent and held, ", end=""
    )
    print(f"{CALLS * LIKELY - window.spent} left, answers {dict(seen)}")
    assert not sampler.faults, sampler.faults[:3]
    assert sampler.samples > 100
    assert not Hold.objects.exists(), "a hold is left"
    assert window.held == 0
    assert CALLS * LIKELY - WORST < window.spent <= CALLS * LIKELY
    assert verification.verify() == []
    assert sum((row.cost for row in LedgerEntry.objects.only("cost")), Decimal(0)) + late() == window.spent
    assert deadlocks() <= before  # statistics start from zero after a crash
    return seen


def late() -> Decimal:
    """What late settlements have changed."""
    with admin_connection() as link:
        found = link.execute("SELECT coalesce(sum(cost), 0) FROM usage_adjustment").fetchone()
    assert found is not None
    return Decimal(found[0])


def test_in_peace(web, key, upstream):
    upstream.answer = answer
    seen = run(web, key)
    assert set(seen) == {200, 429}


def test_while_half_of_the_upstream_calls_fail(web, key, upstream):
    upstream.answer = answer_or_fail
    run(web, key)


def test_while_a_process_is_killed_every_second(web, key, upstream):
    upstream.answer = answer
    killed: list[int] = []

    def kill_one():
        if len(killed) < KILLS:
            process = web.processes.pop(random.randrange(len(web.processes)))
            process.kill()
            process.wait()
            killed.append(process.pid)
            web.start()

    run(web, key, kill_one)
    assert killed


@pytest.mark.skipif("TEST_DATABASE_URL" in os.environ, reason="the database's processes aren't ours to kill")
def test_while_the_database_crashes_and_recovers(web, key, upstream):
    upstream.answer = answer
    crashed: list[int] = []

    def crash_once():
        window = team_window()
        connection.close()
        if not crashed and window is not None and window.spent > CALLS * LIKELY / 4:
            with admin_connection() as link:
                # PostgreSQL ends every session when one is killed, and recovers from its log.
                found = link.execute("SELECT pg_backend_pid()").fetchone()
                assert found is not None
                os.kill(found[0], signal.SIGKILL)
                crashed.append(found[0])

    run(web, key, crash_once)
    assert crashed


def test_while_a_process_sleeps_for_longer_than_its_lease(web, key, upstream):
    upstream.answer = answer
    slept: list[int] = []

    def stop_one():
        if not slept:
            process = web.processes[0]
            process.send_signal(signal.SIGSTOP)
            time.sleep(3 * LEASE)
            process.send_signal(signal.SIGCONT)
            slept.append(process.pid)

    run(web, key, stop_one)
    assert slept
