"""Pages are made within bounds: of what a request brings, of how many at once, and of what the database gives them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection

from gateway_project import pages as bounds
from gateway_project.configuration import Configuration
from gateway_project.pages import Pages
from tests.support.gateway import CLIENT, talk, wait_until

MADE_UP = "sessionid=" + "a" * 32
LOGIN = "/admin/login/"


def head(method, path, *lines):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: gateway", *lines, "", ""]).encode()


def scope(method="POST", **headers):
    given = [(name.replace("_", "-").encode(), str(value).encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": "/", "headers": given, "client": ("127.0.0.1", 0)}


class Visitor:
    """Asks for a page, and says what it got: status, headers and body."""

    def __init__(self, *parts, hangs_up=None):
        self.parts = list(parts)
        self.hangs_up = hangs_up or asyncio.Event()
        self.said = []

    async def receive(self):
        if self.parts:
            part = self.parts.pop(0)
            if part is not None:
                return {"type": "http.request", "body": part, "more_body": bool(self.parts)}
        await self.hangs_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.said.append(message)

    @property
    def status(self):
        return self.said[0]["status"] if self.said else None

    @property
    def headers(self):
        return dict(self.said[0]["headers"])


async def echo(scope, receive, send):
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def test_a_body_that_will_be_too_long_is_refused_before_any_of_it(web):
    most = Configuration.model_fields["max_page_bytes"].default
    for path in (LOGIN, "/admin/", "/docs/"):
        status, headers, said = talk(web, head("POST", path, f"Content-Length: {300 << 20}"))
        assert (status, headers["connection"]) == (413, "close")
        assert str(most) in said.decode()
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        assert talk(web, head(method, LOGIN, "Content-Length: 1"))[0] == 413


def test_a_body_of_no_length_ends_where_the_bound_is(web):
    part = b"10000\r\n" + b"a" * 65_536 + b"\r\n"
    with socket.create_connection(web.address, timeout=60) as link:
        link.sendall(head("POST", LOGIN, "Transfer-Encoding: chunked"))
        sent = 0
        with contextlib.suppress(OSError):  # it hangs up on us
            while sent < 100 << 20:
                link.sendall(part)
                sent += len(part)
        assert sent < 100 << 20


def test_a_form_is_posted_as_ever(web):
    """Also a long one, which comes in several parts."""
    User.objects.create_superuser("boss", password="correct horse battery")
    try:
        page = CLIENT.get(web.url + LOGIN)
        given = {"username": "boss", "password": "correct horse battery", "more": "x" * 500_000}
        given["csrfmiddlewaretoken"] = token = page.cookies["csrftoken"]
        answer = CLIENT.post(web.url + LOGIN, data=given, headers={"cookie": f"csrftoken={token}"})
        assert answer.status_code == 302
        cookie = next(value for value in answer.headers.get_list("set-cookie") if value.startswith("sessionid="))
        # It ends at a time that the sign-in has set.
        age = int(cookie.partition("Max-Age=")[2].partition(";")[0])
        assert 12 * 3600 - 120 < age <= 12 * 3600
        session = cookie.partition(";")[0]
        assert CLIENT.get(web.url + "/admin/", headers={"cookie": session}).status_code == 200
    finally:
        CLIENT.cookies.clear()


def test_made_up_sessions_take_no_connections_from_calls(web):
    """Each page had one of its own."""

    def connections():
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            return cursor.fetchone()[0]

    before, most = connections(), 0
    links = [socket.create_connection(web.address, timeout=60) for _ in range(200)]
    try:
        for link in links:
            link.sendall(head("GET", "/admin/", f"Cookie: {MADE_UP}", "Connection: close"))
        with ThreadPoolExecutor() as pool:
            answers = pool.map(lambda link: link.makefile("rb").readline().split()[1], links)
            gathering = pool.submit(list, answers)
            while not gathering.done():
                most = max(most, connections())
            assert set(gathering.result()) <= {b"302", b"503"}
            assert b"302" in gathering.result()
    finally:
        for link in links:
            link.close()
    # The process itself opens another one at times.
    assert most <= before + 2 * Configuration().pages_of_a_process


@pytest.mark.django_db
def test_a_session_that_cannot_be_is_not_looked_for(client, django_assert_num_queries):
    for key, queries in (("x", 0), ("a" * 31, 0), ("A" * 32, 0), ("a" * 31 + "\0", 0), ("a" * 33, 0), ("a" * 32, 1)):
        client.cookies[settings.SESSION_COOKIE_NAME] = key
        with django_assert_num_queries(queries):
            assert client.get("/admin/").status_code == 302


async def test_no_more_pages_are_worked_on_than_there_are_threads(monkeypatch):
    monkeypatch.setattr(bounds, "WAIT_SECONDS", 0.05)
    go, lock = threading.Event(), threading.Lock()
    working, most, names = 0, 0, set()

    def work():
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
            names.add(threading.current_thread().ident)
        assert go.wait(30)
        with lock:
            working -= 1

    async def page(scope, receive, send):
        await sync_to_async(work)()
        await echo(scope, receive, send)

    pages = Pages(page, at_once=2, most_bytes=1000)
    visitors = [Visitor(b"") for _ in range(5)]
    tasks = [
        asyncio.create_task(pages({**scope("GET"), "client": (f"192.0.2.{at}", 0)}, each.receive, each.send))
        for at, each in enumerate(visitors)
    ]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*tasks[2:])
    for each in visitors[2:]:
        assert (each.status, each.headers[b"retry-after"]) == (503, b"5")
    go.set()
    await asyncio.gather(*tasks)
    assert [each.status for each in visitors[:2]] == [200, 200]
    # Another page gets one of the same threads, with what that keeps.
    again = Visitor(b"")
    await pages(scope("GET"), again.receive, again.send)
    assert (again.status, most, len(names)) == (200, 2, 2)


async def test_a_client_that_disconnects_while_it_waits_gets_no_page():
    go, made = asyncio.Event(), []

    async def page(scope, receive, send):
        made.append(scope)
        await go.wait()
        await echo(scope, receive, send)

    pages = Pages(page, at_once=1, most_bytes=1000)
    first, gone = Visitor(b""), Visitor(b"")
    tasks = [asyncio.create_task(pages(scope("GET"), each.receive, each.send)) for each in (first, gone)]
    while not pages.waiting.taken:
        await asyncio.sleep(0)
    gone.hangs_up.set()
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks)
    assert (len(made), first.status, gone.said) == (1, 200, [])


async def test_networks_take_turns_and_none_takes_all_places():
    go, order = asyncio.Event(), []

    async def page(scope, receive, send):
        order.append(scope["client"][0])
        await go.wait()
        await echo(scope, receive, send)

    def ask(address):
        visitor = Visitor(b"")
        return visitor, asyncio.create_task(
            pages({**scope("GET"), "client": (address, 0)}, visitor.receive, visitor.send)
        )

    pages = Pages(page, at_once=1, most_bytes=1000)
    pages.waiting.of_one = 10
    # The /64 of one customer is one network.
    attack = [ask(f"2001:db8::{number:x}") for number in range(30)]
    await asyncio.sleep(0.05)
    honest = [ask("192.0.2.7"), ask("192.0.2.8"), ask("192.0.2.7")]
    await asyncio.sleep(0.05)
    go.set()
    await asyncio.gather(*(task for _, task in attack + honest))
    assert [visitor.status for visitor, _ in honest] == [200, 200, 200]
    assert sorted(visitor.status for visitor, _ in attack) == [200] * 11 + [503] * 19
    assert [address for address in order[:8] if "." in address] == ["192.0.2.7", "192.0.2.8", "192.0.2.7"]
    assert (pages.waiting.taken, len(pages.threads.free)) == ({}, 1)


async def test_long_pages_of_one_person_or_network_leave_others_a_thread():
    go, order = asyncio.Event(), []

    async def page(scope, receive, send):
        order.append(scope["name"])
        if scope["name"] == "long":
            await go.wait()
        await echo(scope, receive, send)

    def ask(name, address, path="/admin/", **headers):
        visitor = Visitor(b"")
        asked = {**scope("GET", **headers), "client": (address, 0), "path": path, "name": name}
        return visitor, asyncio.create_task(pages(asked, visitor.receive, visitor.send))

    pages = Pages(page, at_once=4, most_bytes=1000)
    # One person: with a session, and with tokens of their own. What a path doesn't read makes no other person of them.
    session = f"{settings.SESSION_COOKIE_NAME}={'a' * 32}"
    slow = [ask("long", "192.0.2.1", cookie=f"{session}; x={at}", x_api_key=str(at)) for at in range(6)]
    await asyncio.sleep(0.05)
    assert order == ["long"] * 2
    colleague, task = ask("short", "192.0.2.1")
    await asyncio.wait_for(task, 20)
    assert colleague.status == 200
    slow += [ask("long", "192.0.2.1", "/api/v1/usage", authorization="Bearer a", cookie=str(at)) for at in range(6)]
    await asyncio.sleep(0.05)
    assert order.count("long") == 3
    stranger, task = ask("short", "198.51.100.1")
    await asyncio.wait_for(task, 20)
    assert stranger.status == 200
    go.set()
    await asyncio.gather(*(task for _, task in slow))
    assert {visitor.status for visitor, _ in slow} == {200}
    assert (len(pages.threads.free), pages.threads.held, pages.threads.waiting) == (4, {}, {})


async def test_a_place_and_a_turn_that_are_given_up_are_the_next_ones():
    pages = Pages(echo, at_once=1, most_bytes=1000)
    thread = await pages.threads.get("a")
    waits = [asyncio.create_task(pages.threads.get(name)) for name in "abac"]
    await asyncio.sleep(0)
    waits[0].cancel()
    waits[1].cancel()
    pages.threads.put(thread)
    waits[2].cancel()  # it has been given the thread, and doesn't know yet
    assert await waits[3] is thread
    pages.threads.put(thread)
    assert pages.threads.free == [thread]


async def test_a_body_is_whole_and_short_and_in_time_before_a_page_sees_it(monkeypatch):
    monkeypatch.setattr(bounds, "BODY_SECONDS", 0.05)
    pages = Pages(echo, at_once=1, most_bytes=200_000)
    whole = Visitor(b"one ", b"", b"two")
    await pages(scope(), whole.receive, whole.send)
    assert (whole.status, whole.said[1]["body"]) == (200, b"one two")
    too_long = Visitor(*[b"a" * 1000] * 201)
    await pages(scope(), too_long.receive, too_long.send)
    assert (too_long.status, too_long.headers[b"connection"]) == (413, b"close")
    slow = Visitor(b"a", None)
    await pages(scope(), slow.receive, slow.send)
    assert slow.status == 408
    gone = Visitor(b"a", None)
    gone.hangs_up.set()
    await pages(scope(), gone.receive, gone.send)
    assert gone.said == []


async def test_few_long_bodies_are_held_at_once_and_short_ones_always():
    pages = Pages(echo, at_once=1, most_bytes=200_000)
    long = [Visitor(b"a" * 100_000, None) for _ in range(bounds.LONG_BODIES)]
    tasks = [asyncio.create_task(pages(scope(), each.receive, each.send)) for each in long]
    while pages.long_bodies < bounds.LONG_BODIES:
        await asyncio.sleep(0)
    another, short = Visitor(b"a" * 100_000), Visitor(b"a" * 1000)
    for each in (another, short):
        await pages(scope(), each.receive, each.send)
    assert (another.status, short.status) == (503, 200)
    for each in long:
        each.hangs_up.set()
    await asyncio.gather(*tasks)
    again = Visitor(b"a" * 100_000)
    await pages(scope(), again.receive, again.send)
    assert (again.status, pages.long_bodies) == (200, 0)


@pytest.mark.django_db
def test_a_statement_of_a_page_is_given_up_after_a_while(monkeypatch):
    monkeypatch.setattr(bounds, "STATEMENT_SECONDS", 1)
    options = dict(settings.DATABASES["default"]["OPTIONS"])
    bounds.bound_statements(options)
    given = connection.get_connection_params() | {"options": options["options"]}
    with psycopg.connect(**given) as link, pytest.raises(psycopg.errors.QueryCanceled):
        link.execute("SELECT repeat('ab', 100) ~ '((((a?){9}){9}){9})b'")


def test_many_processes_leave_the_database_room():
    for processes in (1, 2, 16, 17, 64, 128):
        configured = Configuration(web_processes=processes)
        assert 1 <= configured.pages_of_a_process <= 4
        assert configured.pages_of_a_process * processes <= max(64, processes)
    assert Configuration(web_processes=64, pages_at_once=7).pages_of_a_process == 7


def test_a_wrong_request_is_a_bounded_line_in_the_log(served, start_web):
    web = start_web(allowed_hosts="gateway")
    before = web.log.stat().st_size
    path = "/admin/" + "x" * 20_000
    asked = [
        head("GET", LOGIN).replace(b"gateway", b"elsewhere" * 1000),
        head("GET", "/docs/" + path),
        head("GET", "/admin/", f"Cookie: sessionid={'a' * 20}%00\0"),
        head("POST", LOGIN, "Content-Length: 3") + b"a=b",
        head("POST", LOGIN, "Content-Type: multipart/form-data", "Content-Length: 3") + b"a=b",
    ]
    statuses = [talk(web, request)[0] for request in asked]
    assert max(statuses) < 500
    wait_until(lambda: web.log.stat().st_size > before)
    written = web.log.read_bytes()[before:].decode()
    assert "Traceback" not in written
    assert len(written.splitlines()) <= len(asked)
    assert max(len(line) for line in written.splitlines()) < 1500
