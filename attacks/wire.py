"""What an attacker sends: exact bytes on its own connections, with a stated patience."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from attacks.deployment import Address
from attacks.provider import MODEL

PART = 1 << 18
NO_ANSWER = "no answer"
CLOSED = "closed"


def head(
    method: str, path: str, headers: Mapping[str, str] | Iterable[tuple[str, str]] = (), host: str = "localhost"
) -> bytes:
    """A request's head, the last on its connection. Every gateway accepts the host `localhost`."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lines = [
        f"{method} {path} HTTP/1.1",
        f"host: {host}",
        "connection: close",
        *(f"{name}: {value}" for name, value in pairs),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def call(key: str, path: str = "/v1/messages", length: int = 0, **headers: str) -> bytes:
    """The head of a call with this key."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    about = {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    return head("POST", path, about | {"content-length": str(length)} | named)


def ask(text: str = "Has Bob read it?", **members: Any) -> bytes:
    """A small Messages request."""
    body = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": text}]}
    return json.dumps(body | members).encode()


def in_parts(body: bytes) -> Iterator[bytes]:
    """The same bytes, a part at a time."""
    for start in range(0, len(body), PART):
        yield body[start : start + PART]


async def say(address: Address, first: bytes, body: Iterable[bytes] = (), seconds: float = 10) -> str:
    """Send a head and a body on a connection, and read the whole answer; its status, or why there was no answer.

    Sending stops when the answer begins.
    """
    try:
        async with asyncio.timeout(seconds), connected(address) as (reader, writer):
            answer = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
            try:
                await send(writer, first, body, answer.done)
                status = status_of(await answer)
            finally:
                answer.cancel()
            while await reader.read(PART):
                pass
            return status
    except TimeoutError:
        return NO_ANSWER
    except (OSError, asyncio.IncompleteReadError):
        return CLOSED


async def send(writer: asyncio.StreamWriter, first: bytes, body: Iterable[bytes], stop: Callable[[], bool]) -> None:
    # If the other side has closed, its answer may be there already.
    with contextlib.suppress(ConnectionError):
        writer.write(first)
        for part in body:
            if stop():
                return
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        await writer.drain()


def status_of(got: bytes) -> str:
    return got.split(b" ", 2)[1].decode("latin-1")


@contextlib.asynccontextmanager
async def connected(address: Address) -> Any:
    reader, writer = await asyncio.open_connection(*address, limit=PART)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def held(address: Address, first: bytes, drip: bytes, every: float, seconds: float) -> str:
    """Hold a connection with a request that never ends and slowly grows: the answer's status, CLOSED, or NO_ANSWER if
    the connection is still held at the end."""
    deadline = time.monotonic() + seconds
    try:
        async with asyncio.timeout(seconds + 5), connected(address) as (reader, writer):
            writer.write(first)
            while (left := deadline - time.monotonic()) > 0:
                try:
                    async with asyncio.timeout(min(every, left)):
                        got = await reader.read(PART)
                        return status_of(got) if got else CLOSED
                except TimeoutError:
                    writer.write(drip)
            return NO_ANSWER
    except TimeoutError:
        return NO_ANSWER
    except OSError:
        return CLOSED
