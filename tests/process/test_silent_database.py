"""The gateway while the network to its database swallows everything or cuts connections at the worst moment."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings

from gateway_project import database
from keys.connection import SECONDS
from keys.models import Credential
from tests.support.database_proxy import Cut, Proxy
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import CLIENT, Web, ask, credentials, events, issue, message, post, refused, rows, wait_until
from tests.support.started_writer import admission, count, ledger_ids, quiet, settlement, writing
from usage.arbitration import ArbiterAway
from usage.models import Adjustment, Hold

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

ADMISSION_SECONDS = 1


@pytest.fixture
def proxy(apart):
    with Proxy() as proxy:
        yield proxy


@pytest.fixture
def web(proxy):
    """A web process that reaches its database through the proxy."""
    url = database.url_of({**settings.DATABASES["default"], "HOST": "127.0.0.1", "PORT": proxy.port})
    web = Web(1, database_url=f"{url}&sslmode=disable", admission_seconds=ADMISSION_SECONDS, ping_seconds=0.4)
    try:
        web.start()
        yield web
    finally:
        proxy.hole.clear()
        proxy.cut_all()
        web.close()


@pytest.fixture
def alice(apart, upstream):
    return issue(upstream)


@pytest.fixture
def credential(proxy, tmp_path, settings, monkeypatch):
    """Alice's credential; writers of this process reach the database through the proxy."""
    settings.SPOOL_DIR = tmp_path / "spool"
    monkeypatch.setattr("keys.connection.parameters", lambda bounds: proxy.parameters | {"options": bounds})
    return Credential.objects.select_related("virtual_key").get(virtual_key=issue(None).virtual_key)


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("which", ["settled", "asked"])
async def test_a_group_whose_connection_is_cut_is_written_once_and_every_waiter_gets_an_answer(
    credential, proxy, cut, which
):
    async with writing(patience=10) as writer:
        done = [admission(credential) for _ in range(20)]
        assert set(await asyncio.gather(*map(writer.admit, done))) == {"admitted"}
        calls = [admission(credential) for _ in range(20)]
        # What is queued at once goes in one group, settlements first.
        proxy.cuts[str(done[0].id if which == "settled" else calls[-1].id).encode()] = cut
        for call in done:
            writer.settle(settlement(call))
        assert set(await asyncio.gather(*map(writer.admit, calls))) == {"admitted"}
        assert not proxy.cuts
        await quiet(writer)
        assert ledger_ids() == sorted(call.id for call in done)
        assert sorted([hold.id async for hold in Hold.objects.all()]) == sorted(call.id for call in calls)
        for call in (*done, *calls):
            writer.settle(settlement(call))
        await quiet(writer)
        assert ledger_ids() == sorted(call.id for call in (*done, *calls))
    assert count(Hold) == 0
    assert count(Adjustment) == 0


@pytest.mark.parametrize("cut", Cut)
async def test_a_waiter_whose_patience_ended_during_a_cut_group_leaves_no_hold(credential, proxy, cut):
    async with writing(patience=0.3) as writer:
        call = admission(credential)
        proxy.cuts[str(call.id).encode()] = cut
        waiting = asyncio.ensure_future(writer.admit(call))
        async with asyncio.timeout(30):
            while proxy.cuts:
                await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await writer.admit(admission(credential)) == "admitted"
        await quiet(writer)
        assert count(Hold) == 1


async def test_a_writer_whose_connection_never_says_anything_again_takes_another(credential, proxy, monkeypatch):
    monkeypatch.setattr("usage.admission.GROUP_SECONDS", 0.5)
    async with writing(patience=0.5) as writer:
        call = admission(credential)
        await writer.admit(call)
        proxy.hole.set()
        writer.settle(settlement(call))
        with pytest.raises(ArbiterAway):
            await writer.admit(admission(credential))
        assert count(Hold) == 1
        proxy.hole.clear()
        async with asyncio.timeout(20):
            while await verdict(writer, credential) != "admitted":
                pass
        await quiet(writer)
        assert ledger_ids() == [call.id]
        assert count(Hold) == 1


async def verdict(writer, credential):
    try:
        return await writer.admit(admission(credential))
    except ArbiterAway:
        return "away"


def test_while_the_database_is_silent_streams_are_pinged_calls_get_a_503_in_time_and_then_all_is_well(
    web, proxy, upstream, alice
):
    more = threading.Event()
    parts = events("one", "two")
    upstream.answer = [*pieces(200, parts[:3])[:-1], more, *pieces(200, parts[3:])[1:]]
    headers = credentials(alice.key)
    with (
        CLIENT.stream("POST", web.url + "/v1/messages", json=ask(stream=True), headers=headers) as answer,
        ThreadPoolExecutor() as pool,
    ):
        chunks = answer.iter_raw()
        got = next(chunks)
        proxy.hole.set()
        began = time.monotonic()
        calls = [pool.submit(post, web, alice.key) for _ in range(8)]
        while got.count(b"event: ping") < 5:
            got += next(chunks)
        for call in calls:
            assert "database" in refused(call.result(), 503, "api_error")
            assert int(call.result().headers["retry-after"]) > 0
        assert time.monotonic() - began < 5 * 0.4 + ADMISSION_SECONDS + 15
        began = time.monotonic()
        refused(post(web, alice.key), 503, "api_error")
        assert time.monotonic() - began < ADMISSION_SECONDS + 15
        more.set()
        got += b"".join(chunks)
        assert got.endswith(b"".join(parts[3:]))
    assert len(upstream.seen) == 1
    upstream.answer = whole(200, message())
    proxy.hole.clear()
    proxy.cut_all()
    wait_until(lambda: post(web, alice.key).status_code == 200, seconds=30)
    assert {entry.status for entry in rows(len(upstream.seen))} == {"completed"}


@pytest.mark.long
def test_while_the_database_is_silent_keys_that_are_not_known_yet_get_a_503_in_time_too(web, proxy, upstream, alice):
    upstream.answer = whole(200, message())
    callers = [alice, *(issue(upstream, f"bob-{number}") for number in range(7))]
    post(web, alice.key)
    proxy.hole.set()
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(post, web, caller.key) for caller in callers[1:] * 2]
        for call in calls:
            assert "database" in refused(call.result(), 503, "api_error")
    assert time.monotonic() - began < 2 * SECONDS + 15
    proxy.hole.clear()
    wait_until(lambda: {post(web, caller.key).status_code for caller in callers} == {200}, seconds=30)
