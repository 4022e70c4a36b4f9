"""The gateway while its database is unavailable or slow, or while it stops: clients get an error, no row is lost."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
from django.db import connection

from keys.connection import parameters
from tests.support.databases import maintenance_connection, new_database, throw_out
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import (
    CLIENT,
    admin_connection,
    ask,
    credentials,
    events,
    issue,
    message,
    post,
    refused,
    row,
    rows,
    started,
    wait_until,
)

pytestmark = pytest.mark.either_server


@contextlib.contextmanager
def database_away(name):
    """No client can connect, and connected ones are thrown out."""
    connection.close()
    with psycopg.connect(**(parameters() | {"dbname": "postgres"}), autocommit=True) as link:
        link.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            throw_out(link, "datname = %s", name)
            yield
        finally:
            link.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


@pytest.fixture
def web(apart):
    """Impatient, so that the tests are short."""
    with started(admission_seconds=0.5) as web:
        yield web


@pytest.fixture
def alice(apart, upstream):
    return issue(upstream)


def test_calls_are_refused_while_the_database_is_away_and_let_in_when_it_is_back(web, upstream, alice, apart):
    upstream.answer = whole(200, message())
    answer = post(web, alice.key)
    assert answer.status_code == 200
    with database_away(apart):
        for stream in (False, True):
            answer = post(web, alice.key, ask(stream=stream))
            assert "database" in refused(answer, 503, "api_error")
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["x-should-retry"] == "true"
        assert len(upstream.seen) == 1
    wait_until(lambda: post(web, alice.key).status_code == 200, seconds=10)
    rows(len(upstream.seen))


def test_a_valid_key_that_was_not_seen_yet_gets_no_401_while_the_database_is_away(web, upstream, alice, apart):
    with database_away(apart):
        refused(post(web, alice.key), 503, "api_error")
    wait_until(lambda: post(web, alice.key).status_code == 500, seconds=10)


def test_open_streams_go_on_while_the_database_is_away_and_are_settled_when_it_is_back(web, upstream, alice, apart):
    more = threading.Event()
    parts = events("one", "two")
    upstream.answer = [*pieces(200, parts[:3])[:-1], more, *pieces(200, parts[3:])[1:]]
    headers = credentials(alice.key)
    with CLIENT.stream("POST", web.url + "/v1/messages", json=ask(stream=True), headers=headers) as answer:
        chunks = answer.iter_raw()
        got = next(chunks)
        with database_away(apart):
            more.set()
            got += b"".join(chunks)
            time.sleep(0.3)
    assert got == b"".join(parts)
    entry = row()
    assert (entry.status, entry.output_tokens, entry.estimated) == ("completed", 7, False)


def test_beyond_the_queue_calls_get_a_529(apart, upstream, alice):
    upstream.answer = whole(200, message())
    with started(admission_queue=2) as web, ThreadPoolExecutor(12) as pool, admin_connection() as link:
        post(web, alice.key)
        link.autocommit = False
        link.execute("SELECT * FROM usage_writer FOR UPDATE")
        calls = [pool.submit(post, web, alice.key) for _ in range(12)]
        wait_until(lambda: sum(call.done() for call in calls) >= 9)
        link.rollback()
        overloaded = [answer for call in calls if (answer := call.result()).status_code != 200]
        for answer in overloaded:
            refused(answer, 529, "overloaded_error")
            assert answer.headers["retry-after"] == "1"
        assert len(overloaded) >= 9
        assert len(rows(13 - len(overloaded))) == len(upstream.seen)


def test_stopping_ends_open_calls_first_and_loses_no_row(apart, upstream, alice):
    parts = events("one", "two")
    upstream.answer = pieces(200, parts, pause=0.2)
    with started(stop_grace_seconds=10) as web, ThreadPoolExecutor() as pool:
        calls = [pool.submit(post, web, alice.key, ask(stream=True)) for _ in range(5)]
        upstream.wait_for(5)
        pool.submit(web.close)
        assert {call.result().content for call in calls} == {b"".join(parts)}
    assert {entry.status for entry in rows(5)} == {"completed"}


def test_calls_that_outlast_the_grace_are_cut_and_recorded_as_interrupted(apart, upstream, alice):
    upstream.answer = [*pieces(200, events("one")[:3])[:-1], threading.Event()]
    with started(stop_grace_seconds=1) as web, ThreadPoolExecutor() as pool:
        calling = pool.submit(post, web, alice.key, ask(stream=True))
        upstream.wait_for(1)
        time.sleep(0.2)
        web.close()
        with contextlib.suppress(httpx.HTTPError):
            calling.result()
    entry = row()
    assert (entry.status, entry.estimated) == ("interrupted", True)
    assert upstream.last.gone.wait(20)


def test_a_database_in_use_can_be_dropped_and_its_connections_end(apart):
    with maintenance_connection() as link, new_database("in_use") as name:
        client = psycopg.connect(**(parameters() | {"dbname": name}))
        throw_out(link, "datname = %s", name)
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
        client = psycopg.connect(**(parameters() | {"dbname": name}))
    client.close()
