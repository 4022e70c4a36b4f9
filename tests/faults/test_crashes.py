"""`kill -9` under load: no call that reached the provider is without its row, and none has two."""

from __future__ import annotations

import asyncio
import json
import random

import httpx
import pytest

from tests.support.fake_provider import pieces, whole
from tests.support.gateway import Web, ask, events, issue, message, wait_until
from usage.models import Hold, LedgerEntry

KILLS = 10
CALLERS = 200
LEASE = 2

pytestmark = pytest.mark.slow


@pytest.fixture
def web(served, served_database):
    """Two web processes of this test alone."""
    web = Web(2, lease_seconds=LEASE, log_level="WARNING")
    try:
        web.start()
        yield web
    finally:
        web.close()


def name_of(seen):
    """The id that the client gave its call. It goes into the ledger, and the question has the same number."""
    question: str = json.loads(seen.body)["messages"][0]["content"]
    return question.replace(" ", "-")


def answer(seen):
    """A call lasts up to a third of a second, streamed or not."""
    pause = random.uniform(0, 0.3)
    if json.loads(seen.body).get("stream"):
        parts = events(*"abcdef")
        return pieces(200, parts, pause=pause / len(parts))
    return [pause, *whole(200, message())]


async def call(client, key, number, open_calls):
    body = ask(f"call {number}", stream=number % 2 == 0)
    open_calls.add(number)
    try:
        await client.post("/v1/messages", json=body, headers={"x-api-key": key, "x-request-id": f"call-{number}"})
    except httpx.HTTPError:
        await asyncio.sleep(0.05)
    finally:
        open_calls.discard(number)


async def load(web, key, over, open_calls, numbers):
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=web.url, trust_env=False, limits=limits, timeout=60) as client:
        while not over.is_set():
            await call(client, key, next(numbers), open_calls)


async def storm(web, key):
    """Callers that never stop, while the processes are killed and started again; how many calls were open at the
    kills."""
    open_calls: set[int] = set()
    over, in_flight = asyncio.Event(), 0
    numbers = iter(range(10**9))
    callers = [asyncio.ensure_future(load(web, key, over, open_calls, numbers)) for _ in range(CALLERS)]
    for _ in range(KILLS):
        await asyncio.sleep(random.uniform(1, 2))
        in_flight += len(open_calls)
        await asyncio.to_thread(web.kill)
        await asyncio.to_thread(web.start)
    await asyncio.sleep(1)
    over.set()
    await asyncio.gather(*callers)
    return in_flight


def test_every_call_that_the_provider_saw_has_exactly_one_row_after_ten_kills(web, upstream, served):
    alice = issue(upstream)
    upstream.answer = answer
    in_flight = asyncio.run(storm(web, alice.key))
    wait_until(lambda: not Hold.objects.exists(), seconds=LEASE * 10)
    reached = [name_of(seen) for seen in upstream.seen]
    entries = list(LedgerEntry.objects.values_list("client_labels", "status"))
    found = {labels["request_id"]: status for labels, status in entries}
    surplus = {name: status for name, status in found.items() if name not in set(reached)}
    print(f"{len(reached)} calls reached the provider, {len(found)} rows, {len(surplus)} of them surplus, ", end="")
    print(f"{list(found.values()).count('interrupted')} interrupted, {in_flight} in flight at the kills")
    assert len(set(reached)) == len(reached), "a call was made twice"
    assert len(found) == len(entries), "a call has two rows"
    assert set(reached) <= set(found), "a call has no row"
    assert set(surplus.values()) <= {"interrupted"}
    assert list(found.values()).count("interrupted") <= in_flight
