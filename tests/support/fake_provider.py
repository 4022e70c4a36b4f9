"""A provider to test against: an HTTP/1.1 server over real sockets whose answers each test chooses.

What it answers is a list of steps: bytes are written and flushed, a number is a pause in seconds, an Event is waited
for, and an End ends the connection there. Without one the connection is kept alive. It remembers every request.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Headers = list[tuple[bytes, bytes]]


class End(enum.Enum):
    """How a connection ends: closed in order, or torn down."""

    CLOSE = "FIN"
    RESET = "RST"


Step = bytes | float | threading.Event | End

LINGER_NONE = struct.pack("ii", 1, 0)


@dataclass
class Seen:
    """A request as it arrived, and when its client disconnected."""

    method: str
    target: str
    headers: Headers
    body: bytes
    head: bytes
    arrived: float = field(default_factory=time.monotonic)
    gone: threading.Event = field(default_factory=threading.Event)
    gone_at: float | None = None

    def values(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value.decode("latin-1") for other, value in self.headers if other == name.lower().encode()]


Answer = Sequence[Step]
Behaviour = Callable[[Seen], Answer]


def head(status: int, headers: Headers, *, reason: str = "") -> bytes:
    """A status line and headers."""
    lines = [f"HTTP/1.1 {status} {reason}".encode(), *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def chunk(part: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(part), part) if part else b""


LAST_CHUNK = b"0\r\n\r\n"


def whole(status: int, body: bytes, *headers: tuple[str, str]) -> list[bytes]:
    """An answer in one piece, with its length."""
    given = dict(headers)
    named = {"content-type": "application/json", **given, "content-length": str(len(body))}
    return [head(status, [(name.encode(), value.encode("latin-1")) for name, value in named.items()]) + body]


def pieces(status: int, parts: Sequence[bytes], *headers: tuple[str, str], pause: float = 0) -> list[Step]:
    """A chunked answer, each part flushed by itself."""
    named = {"content-type": "text/event-stream; charset=utf-8", **dict(headers), "transfer-encoding": "chunked"}
    steps: list[Step] = [head(status, [(name.encode(), value.encode("latin-1")) for name, value in named.items()])]
    for part in parts:
        steps.append(chunk(part))
        if pause:
            steps.append(pause)
    return [*steps, LAST_CHUNK]


def broken(parts: Sequence[bytes], end: End = End.CLOSE, *headers: tuple[str, str]) -> list[Step]:
    """A stream that ends with its connection, in the middle of its body."""
    return [*pieces(200, parts, *headers)[:-1], end]


def cut(body: bytes, source: random.Random, most: int = 40) -> list[bytes]:
    """The body in up to this many parts, cut anywhere: inside lines, escapes and characters too."""
    places = sorted({0, len(body), *(source.randrange(len(body) + 1) for _ in range(source.randrange(most)))})
    return [body[start:end] for start, end in itertools.pairwise(places)]


class Upstream:
    """The server, in a thread of its own. `answer` is what the next requests get: steps, or a function that makes
    them of the request."""

    def __init__(self, tls: ssl.SSLContext | None = None, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.tls = tls
        self.answer: Answer | Behaviour = whole(500, b'{"type":"error","error":{"type":"api_error","message":"unset"}}')
        self.seen: list[Seen] = []
        self.connections = 0
        self.faults: list[BaseException] = []
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server(address, backlog=1024)
        self.url = f"http{'s' if tls else ''}://{address[0]}:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()

    def __enter__(self) -> Upstream:
        self._thread.start()
        assert self._started.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        assert not self.faults, self.faults

    @property
    def last(self) -> Seen:
        """The latest request."""
        return self.seen[-1]

    def wait_for(self, count: int = 1, seconds: float = 30) -> Seen:
        """The latest request, once this many have arrived."""
        deadline = time.monotonic() + seconds
        while len(self.seen) < count:
            assert time.monotonic() < deadline, f"{len(self.seen)} of {count} requests arrived"
            time.sleep(0.005)
        return self.seen[-1]

    # In the thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, sock=self._listener, limit=1 << 26, ssl=self.tls)
        )
        self._loop.call_soon(self._started.set)
        self._loop.run_forever()
        server.close()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while (seen := await receive(reader)) is not None:
                self.seen.append(seen)
                steps = self.answer(seen) if callable(self.answer) else self.answer
                if not await self._play(seen, steps, reader, writer):
                    break
        except (OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        except BaseException as fault:
            self.faults.append(fault)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _play(
        self, seen: Seen, steps: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Take the steps; whether the connection goes on."""
        for step in steps:
            if isinstance(step, bytes):
                if not lost(seen, reader):
                    writer.write(step)
                    try:
                        await writer.drain()
                    except OSError:
                        hung_up(seen)
                        return False
                    await asyncio.sleep(0)
            elif isinstance(step, End):
                if step is End.RESET:
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
                    # What was written must be read before a reset throws it away.
                    await asyncio.sleep(0.02)
                return False
            else:
                until = time.monotonic() + step if isinstance(step, int | float) else float("inf")
                while time.monotonic() < until and not (isinstance(step, threading.Event) and step.is_set()):
                    if lost(seen, reader):
                        return False
                    await asyncio.sleep(min(0.01, max(0.0, until - time.monotonic())))
        return not lost(seen, reader)


def lost(seen: Seen, reader: asyncio.StreamReader) -> bool:
    """Whether the other side has hung up; noted with the request."""
    if not reader.at_eof() and reader.exception() is None:
        return False
    hung_up(seen)
    return True


def hung_up(seen: Seen) -> None:
    if seen.gone_at is None:
        seen.gone_at = time.monotonic()
        seen.gone.set()


async def receive(reader: asyncio.StreamReader) -> Seen | None:
    """The next request of a connection, None at its end."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = raw[:-4].split(b"\r\n")
    method, target, _ = first.decode("latin-1").split(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    named = dict(headers)
    if b"chunked" in named.get(b"transfer-encoding", b""):
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.readexactly(int(named.get(b"content-length", b"0")))
    return Seen(method, target, headers, body, raw)
