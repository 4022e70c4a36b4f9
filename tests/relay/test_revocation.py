"""Keys that are issued and revoked while calls run on two processes: a committed change holds for every later call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from django.db import connection

from keys import issuing, pausing
from keys.models import Gateway, VirtualKey
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import CLIENT, ask, credentials, events, issue, message, post, refused, row, rows, wait_until

pytestmark = pytest.mark.either_server

CALLERS = 6


@pytest.fixture
def two(served, start_web):
    """Two processes on one port."""
    return start_web(2)


@pytest.fixture
def both(served, start_web):
    """Two processes, each on a port of its own, so that a test can choose."""
    return start_web(), start_web(log_level="WARNING")


class Traffic:
    """Callers that never stop: each notes when a call began and ended, with which key, and what came of it."""

    def __init__(self, web, key_of: Callable[[], str]):
        self.web = web
        self.key_of = key_of
        self.done: list[tuple[float, float, str, int]] = []
        self.over = threading.Event()
        self.pool = ThreadPoolExecutor(CALLERS)

    def __enter__(self):
        self.running = [self.pool.submit(self.call) for _ in range(CALLERS)]
        return self

    def __exit__(self, *_):
        self.over.set()
        self.pool.shutdown()
        for each in self.running:
            each.result()

    def call(self):
        # A connection for each call spreads them over the processes.
        with httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)) as client:
            while not self.over.is_set():
                key, began = self.key_of(), time.monotonic()
                answer = client.post(self.web.url + "/v1/messages", json=ask(), headers=credentials(key))
                self.done.append((began, time.monotonic(), key, answer.status_code))

    def run(self, seconds=0.2):
        """Wait this many seconds, and until every caller has made a call or two. Returns the time afterwards."""
        began = time.monotonic()
        time.sleep(seconds)
        wait_until(lambda: sum(at > began for at, *_ in self.done) >= 2 * CALLERS, seconds=20)
        return time.monotonic()

    def statuses(self, since=0.0, until=float("inf")):
        """Of the calls that began and ended in between."""
        return {status for began, ended, _, status in self.done if since < began and ended < until}


def test_a_new_key_works_on_every_process_at_once(both, upstream, alice):
    upstream.answer = whole(200, message())
    for number in range(5):
        bob = issue(upstream, f"bob-{number}")
        for web in both:
            answer = post(web, bob.key)
            assert answer.status_code == 200


def test_every_request_of_a_revoked_key_gets_that_error_first(both, upstream, alice):
    first, _ = both
    assert ask_for(first, alice.key, "GET", "/v1/messages/batches") == 200  # this process knows the key from now on
    wrong = {
        ("GET", "/v1/messages/batches/msgbatch_01A"): 404,
        ("GET", "/v1/messages/batches/msgbatch_01A/results"): 404,
        ("POST", "/v1/messages/batches/msgbatch_01A/cancel"): 404,
        ("DELETE", "/v1/messages/batches/msgbatch_01A"): 404,
        ("GET", "/v1/messages/batches?limit=x"): 400,
        ("GET", "/v1/files/file_01A"): 404,
        ("GET", "/v1/files?limit=x"): 400,
        ("GET", "/v1/models/no-such-model"): 404,
        ("GET", "/v1/models?limit=x"): 400,
        ("POST", "/v1/messages"): 400,
        ("POST", "/v1/messages/count_tokens"): 400,
        ("POST", "/v1/messages/batches"): 400,
    }

    def statuses(key):
        return {(how, path): ask_for(first, key, how, path) for how, path in wrong}

    assert statuses(alice.key) == wrong
    issuing.revoke(alice.virtual_key)
    assert statuses(alice.key) == dict.fromkeys(wrong, 401)


def ask_for(web, key, method, path):
    body = b"{}" if method == "POST" else None
    return CLIENT.request(method, web.url + path, content=body, headers=credentials(key)).status_code


def test_no_call_gets_through_that_starts_after_a_revocation_was_committed(two, upstream, alice):
    upstream.answer = whole(200, message())
    with Traffic(two, lambda: alice.key) as traffic:
        traffic.run()
        issuing.revoke(alice.virtual_key)
        committed = time.monotonic()
        traffic.run()
    assert 200 in traffic.statuses(until=committed)
    assert traffic.statuses(since=committed) == {401}
    assert len(rows(len(upstream.seen))) == len(upstream.seen)
    assert sum(status == 200 for *_, status in traffic.done) == len(upstream.seen)


@pytest.mark.parametrize("subject", ["key", "team", "customer", "gateway"])
def test_no_call_gets_through_while_a_key_team_or_customer_is_paused(two, upstream, alice, subject):
    upstream.answer = whole(200, message())
    paused = {
        "key": alice.virtual_key,
        "team": alice.team,
        "customer": alice.virtual_key.customer,
        "gateway": Gateway.objects.get(),
    }[subject]
    with Traffic(two, lambda: alice.key) as traffic:
        traffic.run()
        pausing.pause(paused)
        began = time.monotonic()
        ended = traffic.run()
        pausing.resume(paused)
        resumed = time.monotonic()
        traffic.run()
    assert traffic.statuses(since=began, until=ended) == {503 if subject == "gateway" else 403}
    assert traffic.statuses(since=resumed) == {200}


def test_a_rotation_with_an_overlap_interrupts_no_call(two, upstream, alice):
    upstream.answer = whole(200, message())
    keys = [alice.key]
    with Traffic(two, lambda: keys[-1]) as traffic:
        for _ in range(4):
            traffic.run()
            keys.append(issuing.rotate(alice.virtual_key, timedelta(hours=1)))
        traffic.run()
    assert traffic.statuses() == {200}
    assert len({key for _, _, key, _ in traffic.done}) == 5


def test_an_old_secret_works_until_its_overlap_ends_and_not_longer(two, upstream, alice):
    upstream.answer = whole(200, message())
    with Traffic(two, lambda: alice.key) as traffic:
        traffic.run()
        rotated = time.monotonic()
        new = issuing.rotate(alice.virtual_key, timedelta(seconds=0.6))
        committed = time.monotonic()
        time.sleep(0.6)
        traffic.run()
    assert traffic.statuses(until=rotated + 0.6) == {200}
    assert traffic.statuses(since=committed + 0.6) == {401}
    answer = post(two, new)
    assert answer.status_code == 200


def test_a_key_expires_while_calls_run(two, upstream, alice):
    upstream.answer = whole(200, message())
    with Traffic(two, lambda: alice.key) as traffic:
        traffic.run()
        before = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE keys_virtualkey SET expires_at = clock_timestamp() + interval '0.3 s'")
        after = time.monotonic()
        time.sleep(0.3)
        traffic.run()
    assert traffic.statuses(until=before + 0.3) == {200}
    assert traffic.statuses(since=after + 0.3) == {401}


def test_a_changed_allow_list_holds_from_the_next_call_on_every_process(both, upstream, alice):
    upstream.answer = whole(200, message())
    for web in both:
        answer = post(web, alice.key)
        assert answer.status_code == 200
    VirtualKey.objects.update(allowed_models=["claude-haiku-*"])
    for web in both:
        refused(post(web, alice.key), 403, "permission_error")
        answer = post(web, alice.key, ask(model="claude-haiku-5-5"))
        assert answer.status_code == 200


def test_a_new_secret_of_the_provider_holds_from_the_next_call_on_every_process(both, upstream, alice):
    from keys import provider_keys

    upstream.answer = whole(200, message())
    for web in both:
        post(web, alice.key)
    provider_keys.set_secret(alice.provider_key, "sk-ant-the-next-one-5678")
    for web in both:
        post(web, alice.key)
        assert upstream.last.values("x-api-key") == ["sk-ant-the-next-one-5678"]


def test_a_provider_key_that_was_switched_off_is_called_no_more(both, upstream, alice):
    upstream.answer = whole(200, message())
    for web in both:
        post(web, alice.key)
    alice.provider_key.active = False
    alice.provider_key.save()
    for web in both:
        refused(post(web, alice.key), 404, "not_found_error")
    assert len(upstream.seen) == 2


def stream_in_background(web, key, pool):
    def read():
        with CLIENT.stream(
            "POST", web.url + "/v1/messages", json=ask(stream=True), headers=credentials(key), timeout=20
        ) as answer:
            return b"".join(answer.iter_raw())

    return pool.submit(read)


def test_an_open_stream_runs_to_its_end_after_a_revocation(two, upstream, alice):
    more = threading.Event()
    parts = events("one", "two")
    upstream.answer = [*pieces(200, parts[:3])[:-1], more, *pieces(200, parts[3:])[1:]]
    with ThreadPoolExecutor() as pool:
        reading = stream_in_background(two, alice.key, pool)
        upstream.wait_for(1)
        issuing.revoke(alice.virtual_key)
        time.sleep(1.2)
        more.set()
        assert reading.result() == b"".join(parts)
    assert row().status == "completed"


def test_only_the_revoked_keys_streams_are_cut_when_the_admin_asks_for_it(two, upstream, alice):
    more = threading.Event()
    bob = issue(upstream, "bob")
    parts = events("one", "two")
    upstream.answer = [*pieces(200, parts[:3])[:-1], more, *pieces(200, parts[3:])[1:]]
    with ThreadPoolExecutor() as pool:
        cut = [stream_in_background(two, alice.key, pool) for _ in range(4)]
        kept = stream_in_background(two, bob.key, pool)
        upstream.wait_for(5)
        time.sleep(0.2)
        issuing.revoke(alice.virtual_key, cut_streams=True)
        bodies = [each.result() for each in cut]
        # Before the provider goes on: what it then writes to a connection that is gone may not be noticed any more.
        wait_until(lambda: sum(seen.gone.is_set() for seen in upstream.seen) >= 4)
        more.set()
        assert kept.result() == b"".join(parts)
    for body in bodies:
        assert body.startswith(b"".join(parts[:3]))
        assert b"event: error\n" in body
        assert b"permission_error" in body
    ended = rows(5)
    assert sorted(entry.status for entry in ended) == ["completed"] + ["interrupted"] * 4
    assert all(entry.estimated for entry in ended if entry.status == "interrupted")


def test_a_call_without_an_answer_yet_is_cut_too(two, upstream, alice):
    upstream.answer = [threading.Event()]
    with ThreadPoolExecutor() as pool:
        calling = pool.submit(post, two, alice.key)
        upstream.wait_for(1)
        issuing.revoke(alice.virtual_key, cut_streams=True)
        refused(calling.result(), 403, "permission_error")
    assert upstream.last.gone.wait(20)
    assert row().status == "interrupted"
