"""Pages that a process of its own serves, behind the port of the API."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction

from gateway_project import page_process, page_socket
from gateway_project.pages import LONG_BODIES
from gateway_project.unprivileged import Place
from gateway_project.web import PAGES_NICENESS
from keys.audit.models import AuditEvent
from messages_api.server import known_callers
from tests.support.fake_provider import whole
from tests.support.finance import token_of
from tests.support.gateway import Web, message, post, using, wait_until
from tests.support.signed_in import signed_in

PASSWORD = "correct horse battery staple"


class Machine:
    """A web process and its page process."""

    def __init__(self, folder: Path) -> None:
        self.pages = Web(1, roles="admin", **{page_socket.IS_PAGE_PROCESS: 1})
        self.pages.listener.close()
        self.pages.listener = page_socket.listen(folder, Place())
        self.web = Web(1, trusted_proxies="127.0.0.9", **{page_socket.PATH: self.pages.listener.getsockname()})
        self.http = httpx.Client(base_url=self.web.url, trust_env=False, timeout=60)

    def sign_in(self, **headers: str) -> httpx.Response:
        """What the form to sign in answers."""
        self.http.get("/admin/login/")
        form = {"csrfmiddlewaretoken": self.http.cookies["csrftoken"], "username": "ann", "password": PASSWORD}
        return self.http.post("/admin/login/", data=form, headers=headers)


@pytest.fixture(scope="module")
def served_machine(
    served_database: str, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    with django_db_blocker.unblock(), using(served_database):
        machine = Machine(tmp_path_factory.mktemp("run"))
        machine.pages.start()
        machine.web.start()
    yield machine
    machine.web.close()
    machine.pages.close()
    machine.http.close()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the name of a socket."""
    with tempfile.TemporaryDirectory(prefix="gateway-tests-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def machine(served: None, served_machine: Machine) -> Machine:
    served_machine.pages.start()
    served_machine.http.cookies.clear()
    return served_machine


def test_calls_come_before_pages_where_both_want_the_processors(machine):
    calls, pages = (
        os.getpriority(os.PRIO_PROCESS, process.pid)
        for web in (machine.web, machine.pages)
        for process in web.processes
    )
    assert pages == min(19, calls + PAGES_NICENESS)


def test_its_pages_answer_and_calls_do(machine, alice, upstream):
    upstream.answer = whole(200, message())
    page = machine.http.get("/admin/login/?next=/admin/%C3%A9")
    assert (page.status_code, page.headers["x-frame-options"]) == (200, "DENY")
    assert 'value="/admin/é"' in page.text
    assert post(machine.web, alice.key).status_code == 200


def test_reports_in_anthropics_shape_come_through_the_port_of_the_api(machine):
    token = token_of(User.objects.create_superuser("boss"))
    answer = machine.http.get(
        "/v1/organizations/analytics/cost?starting_at=2026-11-01T00:00:00Z", headers={"x-api-key": token}
    )
    assert answer.status_code == 200, answer.text
    # The sums of the tests before are still there.
    assert [row["cost"]["currency"] for row in answer.json()["data"]] == ["USD"]
    other = machine.http.get("/v1/organizations/api_keys", headers={"x-api-key": token})
    assert (other.status_code, other.json()["error"]["type"]) == (404, "not_found_error")


def test_a_sign_in_has_the_address_of_its_client_and_no_other_that_it_names(machine):
    User.objects.create_superuser("ann", password=PASSWORD)
    said = {page_process.CLIENT.decode(): "203.0.113.66", page_process.SCHEME.decode(): "https"}
    assert machine.sign_in(**said, **{"x-forwarded-for": "203.0.113.66"}).status_code == 302
    assert AuditEvent.objects.filter(action="signed in").latest("id").address == "127.0.0.1"
    assert machine.http.get("/admin/").status_code == 200


def test_an_answer_has_no_header_of_the_two_processes(machine):
    with signed_in() as cookies:
        page = machine.http.get("/admin/", headers={"cookie": f"sessionid={cookies['sessionid']}"})
    assert page.status_code == 200
    assert not {name.decode() for name in page_process.OURS} & set(page.headers)


def test_a_body_that_is_too_long_is_refused_however_it_is_sent(machine):
    def endless() -> Iterator[bytes]:
        for _ in range(400):
            yield b"x" * 65536

    sized = machine.http.post("/admin/login/", content=b"x" * (settings.CONFIGURATION.max_page_bytes + 1))
    assert sized.status_code == 413
    with contextlib.suppress(httpx.WriteError, httpx.ReadError):
        assert machine.http.post("/admin/login/", content=endless()).status_code == 413
    assert machine.http.get("/admin/login/").status_code == 200


def test_of_long_forms_at_once_all_but_a_few_are_refused_before_their_bytes_are_read(machine):
    head = (
        b"POST /admin/login/ HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: text/plain\r\ncontent-length: 1000000\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:
        links = [
            stack.enter_context(socket.create_connection(machine.web.listener.getsockname(), timeout=60))
            for _ in range(3 * LONG_BODIES)
        ]
        for link in links:
            link.sendall(head)
        wait_until(lambda: len(select.select(links, [], [], 0)[0]) == 2 * LONG_BODIES)
        for link in select.select(links, [], [], 0)[0]:
            assert link.recv(1000).startswith(b"HTTP/1.1 503 ")
        # A short form still passes.
        assert machine.http.post("/admin/login/", content=b"x").status_code == 403
    wait_until(lambda: machine.http.post("/admin/login/", content=b"x" * 100_000).status_code == 403)


def test_a_page_that_is_asked_for_while_its_process_is_replaced_waits_and_calls_go_on(machine, alice, upstream):
    upstream.answer = whole(200, message())
    machine.pages.kill()
    with ThreadPoolExecutor(1) as thread:
        page = thread.submit(machine.http.get, "/admin/login/")
        assert post(machine.web, alice.key).status_code == 200
        assert not page.done()
        machine.pages.start()
        assert page.result().status_code == 200


def test_a_page_that_its_process_dies_over_ends_and_the_next_one_answers(machine):
    with signed_in() as cookies, connection.cursor() as cursor, transaction.atomic():
        cursor.execute("LOCK keys_providerkey")
        headers = {"cookie": f"sessionid={cookies['sessionid']}"}
        with ThreadPoolExecutor(1) as thread:
            page = thread.submit(machine.http.get, "/admin/keys/providerkey/", headers=headers)
            wait_until(lambda: waiting(cursor))
            machine.pages.kill()
            assert page.result().status_code == 503
        assert "isn't running" in page.result().text
        assert page.result().headers["retry-after"] == "5"
    machine.pages.start()
    assert machine.http.get("/admin/login/").status_code == 200


def test_a_page_whose_client_leaves_gives_up_its_connection(machine):
    with signed_in() as cookies, connection.cursor() as cursor, transaction.atomic():
        cursor.execute("LOCK keys_providerkey")
        with contextlib.suppress(httpx.ReadTimeout):
            machine.http.get(
                "/admin/keys/providerkey/", headers={"cookie": f"sessionid={cookies['sessionid']}"}, timeout=1
            )
        wait_until(lambda: established(machine.pages.listener.getsockname()) == 0, 10)


async def test_the_rest_of_a_long_export_is_not_taken_once_its_client_has_left(short_folder):
    parts, left = 200, asyncio.Event()
    taken = list[Any]()

    async def export(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(parts):
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        writer.close()

    asked = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if asked:
            return asked.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        taken.append(message)
        if message.get("body"):
            left.set()

    path = str(short_folder / "pages")
    scope = {"type": "http", "method": "GET", "scheme": "http", "raw_path": b"/export", "path": "/export"}
    scope |= {
        "query_string": b"",
        "headers": [(b"host", b"pages")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    async with await asyncio.start_unix_server(export, path):
        await page_process.PageProcess(path)(scope, receive, send)
    assert taken[0]["status"] == 200
    assert 0 < sum(len(message.get("body", b"")) for message in taken) < parts * 65536 / 2
    assert taken[-1].get("more_body"), "the answer did not end"


def test_a_session_that_was_valid_counts_as_an_identified_caller_until_it_is_not():
    application = page_process.PageProcess("/nowhere")
    noted = list[bool]()
    scope = {"state": {known_callers.KNOWN: lambda: noted.append(True)}}
    application._note(scope, b"a digest", [(b"X-Bursar-Known", b"1")])
    assert (noted, list(application.sessions)) == ([True], [b"a digest"])
    application._note(scope, b"a digest", [])
    assert (noted, list(application.sessions)) == ([True], [])


def test_it_remembers_a_bounded_number_of_sessions():
    application = page_process.PageProcess("/nowhere")
    for number in range(page_process.SESSIONS + 10):
        application._note({}, b"%d" % number, [(page_process.KNOWN, b"1")])
    assert len(application.sessions) == page_process.SESSIONS
    assert b"9" not in application.sessions


def waiting(cursor) -> bool:
    cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return bool(cursor.fetchone()[0])


def established(path: str) -> int:
    """Connections to this Unix socket, without the one that listens."""
    time.sleep(0.1)
    with open("/proc/net/unix") as file:
        return sum(line.rstrip().endswith(f" {path}") and line.split()[5] == "03" for line in file)
