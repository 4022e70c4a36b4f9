"""Either HTTP client on an event loop of its own, and what providers send it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from keys import destinations
from messages_api.upstream.client import Answer, Headers, UpstreamClient, UpstreamError
from messages_api.upstream.lean import LeanClient
from messages_api.upstream.with_aiohttp import AiohttpClient
from tests.support.fake_provider import Seen, Step

T = TypeVar("T")
FIRST_BYTE_SECONDS = 5.0
CONNECT_SECONDS = 3.0


@dataclass
class Got:
    """An answer, read to its end."""

    status: int
    headers: Headers
    body: bytes


class Caller:
    """A client, and the event loop that it lives on."""

    def __init__(self, kind: str, runner: asyncio.Runner) -> None:
        self.kind = kind
        self.runner = runner
        self.client = runner.run(make(kind))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def get(self, url: str, body: bytes = b"{}", headers: Headers | None = None) -> Got:
        return self.run(fetch(self.client, url, body, headers))

    def fail(self, url: str, body: bytes = b"{}", headers: Headers | None = None) -> UpstreamError:
        """The error that the call ends with."""
        with pytest.raises(UpstreamError) as caught:
            self.get(url, body, headers)
        return caught.value

    def idle(self, seconds: float = 0.03) -> None:
        """Let the event loop hear what happens meanwhile."""
        self.run(asyncio.sleep(seconds))


async def make(kind: str, tls: ssl.SSLContext | None = None, **terms: Any) -> UpstreamClient:
    seconds = {"connect_seconds": CONNECT_SECONDS, "first_byte_seconds": FIRST_BYTE_SECONDS}
    given: dict[str, Any] = {**seconds, "destinations": destinations.current(), **terms}
    tls = tls or ssl.create_default_context()
    return AiohttpClient(tls=tls, proxy="", **given) if kind == "aiohttp" else LeanClient(tls=tls, **given)


async def fetch(client: UpstreamClient, url: str, body: bytes = b"{}", headers: Headers | None = None) -> Got:
    answer = await client.send("POST", url, headers or [], body)
    return await rest(answer)


async def rest(answer: Answer) -> Got:
    parts = []
    try:
        while part := await answer.read():
            parts.append(part)
    finally:
        answer.close()
    return Got(answer.status, answer.headers, b"".join(parts))


def calling(kind: str, loop: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Caller]:
    with asyncio.Runner(loop_factory=loop) as runner:
        caller = Caller(kind, runner)
        yield caller
        runner.run(caller.client.close())
        runner.run(asyncio.sleep(0.01))


@pytest.fixture(params=["lean", "aiohttp"])
def caller(request: pytest.FixtureRequest) -> Iterator[Caller]:
    """Either client, on uvloop."""
    yield from calling(request.param, uvloop.new_event_loop)


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def lean(request: pytest.FixtureRequest) -> Iterator[Caller]:
    """The lean client, on either event loop."""
    yield from calling("lean", request.param)


def in_turn(*answers: Sequence[Step]) -> Callable[[Seen], Sequence[Step]]:
    """Each request gets the next of these answers."""
    left = iter(answers)
    return lambda _: next(left)


def sockets() -> set[str]:
    """The sockets that this process has open."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if (target := os.readlink(entry)).startswith("socket:"):
                found.add(target)
    return found


def lines(*given: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """The head of an answer, written as it is given."""
    return b"\r\n".join((status, *given)) + b"\r\n\r\n"


CHUNKED = lines(b"transfer-encoding: chunked")
LENGTH_5 = lines(b"content-length: 5")


def mine(before: set[str]) -> set[str]:
    """Sockets since then, but for those of the provider, which lives in this process too, and closes when we do."""
    deadline = time.monotonic() + 2
    while (new := sockets() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    return new


async def remade(caller: Caller, tls: ssl.SSLContext | None = None, **terms: Any) -> UpstreamClient:
    await caller.client.close()
    return await make(caller.kind, tls, **terms)


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of a server that does with its one connection what the test says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            link, _ = listener.accept()
            with link, contextlib.suppress(OSError):
                serve(link)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(60)
        assert not thread.is_alive()


def wait(event: threading.Event) -> None:
    event.wait(5)
