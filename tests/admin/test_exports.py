"""Exports are sent in pieces: a client that reads slowly holds neither a thread nor a transaction, and an export that
can't be completed doesn't look complete."""

from __future__ import annotations

import asyncio
import csv
import io
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest

from gateway_project import pages as bounds
from gateway_project.pages import EXPORT, Pages
from keys import exports
from keys.audit.models import AuditEvent
from keys.exports import Export, Pieces
from keys.table_files import TableFile
from tests.support.audit_log import sql
from tests.support.gateway import CLIENT, wait_until
from tests.support.signed_in import signed_in

PATH = "/admin/keys/auditevent/export/?table=keys_modelalias"
ADD = """
INSERT INTO keys_auditevent (actor_kind, actor, address, action, table_name, object, about, changes)
SELECT 'sql', 'tests', '', 'changed', 'keys_modelalias', n::text, '', jsonb_build_object('target',
    jsonb_build_object('from', repeat('a', 190), 'to', repeat('b', 190))) FROM generate_series(1, %s) n
"""


def cookie(cookies: dict[str, str]) -> dict[str, str]:
    return {"cookie": f"sessionid={cookies['sessionid']}"}


def count() -> int:
    return AuditEvent.objects.filter(table_name="keys_modelalias").count()


def end_of_export() -> dict[str, str] | None:
    """How the last export ended: rows and whether it is complete. None while it goes on."""
    event = AuditEvent.objects.filter(table_name="keys_auditevent").latest("id")
    if event.action != "export ended":
        return None
    return {name: change["to"] for name, change in event.changes.items()}


def test_an_export_of_many_pieces_is_complete_and_has_two_events(served, start_web):
    sql(ADD, 2500)
    web = start_web()
    with signed_in() as cookies:
        answer = CLIENT.get(web.url + PATH, headers=cookie(cookies))
        begun = AuditEvent.objects.filter(action="exported", table_name="keys_auditevent").latest("id")
        assert begun.changes == {"query": {"to": "table=keys_modelalias"}}
        assert begun.actor_kind == "person"
        ended = AuditEvent.objects.filter(action="export ended").latest("id")
        assert (ended.actor_kind, ended.actor_id, ended.address) == (begun.actor_kind, begun.actor_id, begun.address)
    lines = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert lines[0][0] == "id"
    assert len(lines) - 1 == count()
    assert [int(line[0]) for line in lines[1:]] == sorted(int(line[0]) for line in lines[1:])
    assert end_of_export() == {"rows": str(count()), "complete": "true"}


def test_a_client_that_stops_reading_holds_no_thread_and_no_transaction(served, start_web):
    sql(ADD, 40_000)
    web = start_web(pages_at_once=1)
    place = urlsplit(web.url)
    with signed_in() as cookies, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((place.hostname, place.port))
        lines = (f"GET {PATH} HTTP/1.1", f"Host: {place.netloc}", f"Cookie: {cookie(cookies)['cookie']}", "", "")
        slow.sendall("\r\n".join(lines).encode())
        assert slow.recv(12) == b"HTTP/1.1 200"
        # The process's only thread serves others, before and after the export waits for its reader.
        for _ in range(5):
            assert CLIENT.get(f"{web.url}/admin/", headers=cookie(cookies)).status_code == 200
        assert end_of_export() is None
        busy = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%' AND datname = %s"
        assert sql(busy, sql("SELECT current_database()")[0][0]) == [(0,)]
        slow.close()
        ended = wait_until(end_of_export)
    assert ended["complete"] == "false"
    assert int(ended["rows"]) < count()


class Reader:
    """A client's side of ASGI, which keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.asked = False
        self.goes_on = asyncio.Event()

    async def receive(self):
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()

    async def send(self, message):
        self.got.append(message)
        await self.goes_on.wait()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.got)


def exporting(make):
    """Pages whose only page exports what this generator makes."""

    async def page(scope, receive, send):
        scope[EXPORT] = await sync_to_async(lambda: Pieces(make()))()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return Pages(page, at_once=1, most_bytes=1000)


SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("127.0.0.1", 0)}


async def test_pieces_are_made_only_as_fast_as_they_are_read():
    made = []

    def pieces():
        for number in range(100):
            made.append(number)
            yield b"line\n"

    reader = Reader()
    task = asyncio.create_task(exporting(pieces)(SCOPE, reader.receive, reader.send))
    while len(reader.got) < 1:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert made == []
    reader.goes_on.set()
    await task
    assert reader.body == b"line\n" * 100
    assert not reader.got[-1].get("more_body")


async def test_an_export_that_fails_or_takes_too_long_has_no_end(monkeypatch):
    ended = []

    def fails():
        try:
            yield b"line\n"
            raise OSError("the disk is gone")
        finally:
            ended.append("fails")

    def goes_on():
        try:
            while True:
                yield b"line\n"
        finally:
            ended.append("goes on")

    reader = Reader()
    reader.goes_on.set()
    with pytest.raises(OSError, match="the disk is gone"):
        await exporting(fails)(SCOPE, reader.receive, reader.send)
    assert reader.got[-1]["more_body"]
    monkeypatch.setattr(exports, "SECONDS", 0.2)
    reader = Reader()
    reader.goes_on.set()
    await exporting(goes_on)(SCOPE, reader.receive, reader.send)
    assert reader.got[-1]["more_body"]
    assert ended == ["fails", "goes on"]


async def test_few_exports_are_sent_at_once(monkeypatch):
    monkeypatch.setattr(bounds, "EXPORTS", 1)
    pages = exporting(lambda: (line for line in [b"line\n"]))
    first, second, third = Reader(), Reader(), Reader()
    task = asyncio.create_task(pages(SCOPE, first.receive, first.send))
    while not first.got:
        await asyncio.sleep(0.01)
    second.goes_on.set()
    await pages(SCOPE, second.receive, second.send)
    assert second.got[0]["status"] == 503
    first.goes_on.set()
    await task
    third.goes_on.set()
    await pages(SCOPE, third.receive, third.send)
    assert (third.got[0]["status"], third.body) == (200, b"line\n")


async def test_a_person_leaves_others_room_for_exports():
    pages = exporting(lambda: (line for line in [b"line\n"]))

    def of(session: str) -> dict[str, Any]:
        return SCOPE | {"headers": [(b"cookie", f"{settings.SESSION_COOKIE_NAME}={session}".encode())]}

    slow = [Reader() for _ in range(bounds.EXPORTS // 2)]
    tasks = [asyncio.create_task(pages(of("a" * 32), each.receive, each.send)) for each in slow]
    while not all(each.got for each in slow):
        await asyncio.sleep(0.01)
    for session, status in (("a" * 32, 503), ("b" * 32, 200)):
        reader = Reader()
        reader.goes_on.set()
        await pages(of(session), reader.receive, reader.send)
        assert reader.got[0]["status"] == status
    for each in slow:
        each.goes_on.set()
    await asyncio.gather(*tasks)


@pytest.mark.django_db
def test_a_formula_in_an_export_is_shown_as_text():
    answer = Export(HttpRequest(), "keys_team", TableFile("teams", ["name"]), iter([[["=1+1"]], [["Research"]]]))
    assert b"".join(answer).decode("utf-8-sig").splitlines() == ["name", "'=1+1", "Research"]
    assert end_of_teams() == {"rows": "2", "complete": "true"}


def end_of_teams() -> dict[str, str]:
    event = AuditEvent.objects.get(table_name="keys_team", action="export ended")
    return {name: change["to"] for name, change in event.changes.items()}
