"""The real gateway, as web processes of its own over real sockets, for tests of the endpoint.

They have a database to themselves beside the tests' own, so that what they commit and what
other tests roll back or flush don't meet. The fixture `served` lets a test's own ORM write there.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from django.conf import settings
from django.test import override_settings

from gateway_project import database, static_files
from keys import issuing, provider_keys
from keys.models import Customer, Gateway, ProviderKey, Team, VirtualKey
from tests.support import forks, planted
from tests.support.databases import admin_connection as admin_connection
from tests.support.databases import new_database as new_database
from tests.support.databases import using as using
from tests.support.emptying import empty as empty
from tests.support.fake_provider import Upstream
from usage.models import FreeCalls, Hold, LedgerEntry, Process, Writer

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "claude-opus-5-5"
PROVIDER_SECRET = "sk-ant-the-providers-own-1234"
planted.note(PROVIDER_SECRET)

# One for all tests: making one reads a list of certificates each time.
CLIENT = httpx.Client(timeout=30, trust_env=False)


@pytest.fixture(scope="session")
def served_database(django_db_blocker: Any) -> Iterator[str]:
    """The name of the gateway's database."""
    with django_db_blocker.unblock(), new_database("served") as name:
        yield name


@pytest.fixture(scope="session")
def apart_database(django_db_blocker: Any) -> Iterator[str]:
    """The name of a database that no web process serves but a test's own."""
    with django_db_blocker.unblock(), new_database("apart") as name:
        yield name


@pytest.fixture
def served(served_database: str, django_db_blocker: Any) -> Iterator[None]:
    """The gateway's database as the test's own, empty: what is written is committed. What the web processes log
    meanwhile is shown with a test that fails."""
    before = {web.log: web.log.stat().st_size for web in Web.running}
    with django_db_blocker.unblock(), using(served_database, keep=True):
        empty()
        yield
    for web in Web.running:
        sys.stderr.write(web.log.read_bytes()[before.get(web.log, 0) :].decode(errors="replace"))


@pytest.fixture
def apart(apart_database: str, django_db_blocker: Any) -> Iterator[str]:
    """The database for tests that do it harm, as the test's own, empty; its name."""
    with django_db_blocker.unblock(), using(apart_database, keep=True):
        Hold.objects.all().delete()
        Process.objects.all().delete()
        Writer.objects.all().delete()
        empty()
        yield apart_database


class Web:
    """Web processes on one listening socket."""

    running: ClassVar[list[Web]] = []

    def __init__(self, count: int = 1, **options: object) -> None:
        self.count = count
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.address: tuple[str, int] = self.listener.getsockname()
        self.folder = tempfile.TemporaryDirectory(prefix="gateway-web-", dir="/tmp")
        self.log = Path(self.folder.name) / "log"
        self.processes: list[forks.Forked] = []
        self.environment = os.environ | {
            "DATABASE_URL": database.url_of(settings.DATABASES["default"]),
            "VAR_DIR": str(settings.VAR_DIR),
            "SPOOL_DIR": str(Path(self.folder.name) / "spool"),
            "DRAIN_NOTICE": "0",
            "STOP_GRACE_SECONDS": "2",
            "ALLOWED_HOSTS": "*,127.0.0.1",
            **{name.upper(): str(value) for name, value in options.items()},
        }

    def start(self) -> None:
        """Start as many processes as are missing, and wait until they answer."""
        if self not in self.running:
            self.running.append(self)
        missing = self.count - len(self.processes)
        pipes = [self._launch() for _ in range(missing)]
        for pipe in pipes:
            with os.fdopen(pipe, "rb") as ready:
                assert ready.read(1) == b"1", self.log.read_text()[-4000:]

    def _launch(self) -> int:
        reading, writing = os.pipe()
        with self.log.open("ab") as log:
            self.processes.append(forks.start(self.environment, self.listener.fileno(), writing, log.fileno()))
        os.close(writing)
        return reading

    def signal(self, number: int) -> None:
        """Send every process a signal and wait for its end."""
        for process in self.processes:
            process.send_signal(number)
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
        self.processes.clear()

    def kill(self) -> None:
        """As a crash would."""
        self.signal(signal.SIGKILL)

    def close(self) -> None:
        """Stop in order, check that the log has no secret and no content, and clean up."""
        try:
            if self.processes:
                self.signal(signal.SIGTERM)
            if self.log.exists():
                planted.check(self.log.read_text(errors="replace"))
        finally:
            if self in self.running:
                self.running.remove(self)
            self.listener.close()
            self.folder.cleanup()


@contextlib.contextmanager
def started(**options: Any) -> Iterator[Web]:
    """A web process for one test, with options of its own."""
    web = Web(1, **options)
    try:
        web.start()
        yield web
    finally:
        web.close()


@pytest.fixture(scope="session")
def start_web(served_database: str, django_db_blocker: Any) -> Iterator[Callable[..., Web]]:
    """Starts web processes: `start_web(count, setting=value …)`. One with the same settings is started once."""
    running: dict[str, Web] = {}

    def start(count: int = 1, **options: object) -> Web:
        name = json.dumps([count, options], sort_keys=True, default=str)
        if name not in running:
            with django_db_blocker.unblock(), using(served_database):
                web = Web(count, **options)
                try:
                    web.start()
                except BaseException:
                    web.close()
                    raise
            running[name] = web
        return running[name]

    yield start
    for web in running.values():
        web.close()


@pytest.fixture
def web(served: None, start_web: Callable[..., Web]) -> Web:
    """One web process with the default settings, shared by the tests of a run."""
    return start_web()


@pytest.fixture
def web_once(served: None, start_web: Callable[..., Web]) -> Web:
    """One web process that makes a call once: what a provider says is the answer."""
    return start_web(retry_attempts=1)


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment's folder with its static files, as a first start leaves it; other tests find none collected."""
    folder = tmp_path_factory.mktemp("deployment")
    with override_settings(STATIC_ROOT=folder / "static"):
        static_files.collect()
    return folder


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A provider that does what the test says (tests/support/fake_provider.py). Each test has its own, at its own
    address, so that a probe which the gateway still makes when a test ends doesn't reach the next test."""
    with Upstream() as upstream:
        yield upstream


@dataclass
class Caller:
    """Alice's virtual key, of Acme's team Research."""

    virtual_key: VirtualKey
    key: str = field(repr=False)
    provider_key: ProviderKey

    @property
    def team(self) -> Team:
        assert self.virtual_key.team is not None
        return self.virtual_key.team


def issue(upstream: Upstream | None, name: str = "alice", **terms: Any) -> Caller:
    """A virtual key that maps to this upstream, or to echo."""
    customer, _ = Customer.objects.get_or_create(name="Acme")
    team, _ = Team.objects.get_or_create(customer=customer, name="Research")
    called = "main" if upstream else "echo"
    provider_key = ProviderKey.objects.filter(name=called).first()
    if provider_key is None:
        about: dict[str, Any] = (
            {"provider": "anthropic", "base_url": upstream.url, "secret": PROVIDER_SECRET}
            if upstream
            else {"provider": "echo"}
        )
        provider_key = provider_keys.add_provider_key(name=called, **about)
    given: dict[str, Any] = {
        "name": name,
        "customer": customer,
        "team": team,
        "provider_keys": [(provider_key, 1)],
    } | terms
    virtual_key, plain = issuing.issue_virtual_key(**given)
    planted.note(plain)
    return Caller(virtual_key, plain, provider_key)


@pytest.fixture
def alice(served: None, upstream: Upstream) -> Caller:
    """Alice, who calls the fake provider."""
    return issue(upstream)


@pytest.fixture
def echo_alice(served: None) -> Caller:
    """Alice, who calls echo."""
    return issue(None)


def ask(text: str | Sequence[Any] = "Hello", **members: Any) -> dict[str, Any]:
    """A small Messages request."""
    if isinstance(text, str):
        planted.note(text)
    return {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": text}]} | members


def message(text: str = "Hi", input_tokens: int = 11, output_tokens: int = 7, **members: Any) -> bytes:
    """A small Messages answer."""
    planted.note(text)
    answer = {
        "id": "msg_test",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
    }
    return json.dumps(answer | members, ensure_ascii=False).encode()


def event(kind: str, **members: Any) -> bytes:
    """A server-sent event."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members}, ensure_ascii=False)}\n\n".encode()


def events(*texts: str, input_tokens: int = 11, output_tokens: int = 7) -> list[bytes]:
    """The events of a small stream, a text delta for each text."""
    for text in texts:
        planted.note(text)
    start = json.loads(message(input_tokens=input_tokens, output_tokens=1)) | {"content": [], "stop_reason": None}
    return [
        event("message_start", message=start),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}) for text in texts),
        event("content_block_stop", index=0),
        event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": output_tokens},
        ),
        event("message_stop"),
    ]


def credentials(key: str) -> dict[str, str]:
    """How SDK 2 sends a key."""
    return {"authorization": f"Bearer {key}", "anthropic-version": "2026-10-21"}


def post(web: Web, key: str, body: dict[str, Any] | bytes | None = None, path: str = "/v1/messages") -> httpx.Response:
    """One call with this key."""
    content = body if isinstance(body, bytes) else json.dumps(body or ask()).encode()
    return CLIENT.post(web.url + path, content=content, headers=credentials(key))


def talk(web: Web, data: bytes, seconds: float = 30) -> tuple[int, dict[str, str], bytes]:
    """Say exactly these bytes on a connection of their own; the answer's status, headers and body."""
    with socket.create_connection(web.address, timeout=seconds) as link:
        link.sendall(data)
        answer = http.client.HTTPResponse(link)
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def wait_until(what: Callable[[], Any], seconds: float = 30) -> Any:
    """What it returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it didn't happen in time"
        time.sleep(0.01)
    return found


def rows(count: int, seconds: float = 30) -> list[LedgerEntry]:
    """The ledger, oldest first, once it has this many rows and no call is open."""
    deadline = time.monotonic() + seconds
    while True:
        found = list(LedgerEntry.objects.order_by("id"))
        if (len(found) >= count and not Hold.objects.exists()) or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert len(found) == count, f"{len(found)} rows instead of {count}"
    assert not Hold.objects.exists(), "a hold is left"
    return found


def row() -> LedgerEntry:
    """The only row of the ledger."""
    return rows(1)[0]


def free_calls(virtual_key: VirtualKey, count: int) -> dict[tuple[str, str], int]:
    """The number of free calls of this key, by endpoint and status, once this many are counted."""

    def found() -> dict[tuple[str, str], int]:
        mine = FreeCalls.objects.filter(virtual_key=virtual_key).values_list("endpoint", "status", "calls")
        cells = {(endpoint, status): calls for endpoint, status, calls in mine}
        return cells if sum(cells.values()) >= count else {}

    counted: dict[tuple[str, str], int] = wait_until(found)
    assert sum(counted.values()) == count
    return counted


def refused(answer: httpx.Response, status: int, kind: str) -> str:
    """Check that this is an error of ours in Anthropic's shape; returns its message."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-bf-request-id"]
    assert answer.headers["content-type"] == "application/json"
    text: str = body["error"]["message"]
    return text


def pause_gateway(paused: bool) -> None:
    """Pause or resume everybody."""
    Gateway.objects.update(paused=paused)
