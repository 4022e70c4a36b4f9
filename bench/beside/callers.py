"""Clients that call as soon as they have their answers, from one process that reads answers and no more.

It reads a plan (`Plan`) as JSON from its standard input, since a plan has a key. It prints `begin` when the warm-up is
over, `end` when the time is, and then what it saw, as JSON (`Seen`), once every open call has its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import uvloop

STAMP = re.compile(rb"@(\d{16})")
TAIL = 400


@dataclass(frozen=True)
class Plan:
    """How to call.

    Attributes:
        body: the file of the body.
        expect: what the end of each good answer contains.
        spread: seconds within which the callers begin.
        stamped: whether events have their times.
    """

    port: int
    path: str
    headers: dict[str, str]
    body: str
    callers: int
    expect: str
    warm: float
    seconds: float
    spread: float = 0.0
    stamped: bool = False


@dataclass
class Seen:
    """What callers saw. `calls` and `failed` count the measured time; `made` all calls. Milliseconds."""

    calls: int = 0
    failed: int = 0
    made: int = 0
    p50: float = 0.0
    p99: float = 0.0
    delay50: float = 0.0
    delay99: float = 0.0
    worst: str = ""


@dataclass
class Crowd:
    """All callers of a plan, and what they have seen."""

    plan: Plan
    request: bytes
    seen: Seen = field(default_factory=Seen)
    latencies: list[float] = field(default_factory=list)
    delays: list[int] = field(default_factory=list)
    measuring: bool = False
    over: bool = False
    open: int = 0


class Caller(asyncio.Protocol):
    """One caller on one connection; a new one if the gateway closes it."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.tail = b""
        self.waits = False

    async def connect(self, after: float) -> None:
        await asyncio.sleep(after)
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.crowd.plan.port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is no subclass.
        self.transport = cast(asyncio.Transport, transport)
        self.call()

    def call(self) -> None:
        if self.crowd.over:
            self.transport.close()
            return
        self.tail, self.head, self.length = b"", b"", -1
        self.waits = True
        self.crowd.open += 1
        self.crowd.seen.made += 1
        self.since = time.perf_counter()
        self.transport.write(self.crowd.request)

    def data_received(self, data: bytes) -> None:
        if self.crowd.plan.stamped and self.crowd.measuring:
            now = time.monotonic_ns() // 1000
            self.crowd.delays += [now - int(stamp) for stamp in STAMP.findall(data)]
        if not self.head:
            self.tail += data
            if (end := self.tail.find(b"\r\n\r\n")) < 0:
                return
            self.head, data, self.tail = self.tail[:end].lower(), self.tail[end + 4 :], b""
            _, named, length = self.head.partition(b"\r\ncontent-length:")
            self.length = int(length.split(b"\r\n", 1)[0]) if named else -1
        self.length -= len(data) if self.length >= 0 else 0
        self.tail = data[-TAIL:] if len(data) >= TAIL else (self.tail + data)[-TAIL:]
        if self.length == 0 or (self.length < 0 and self.tail.endswith(b"\r\n0\r\n\r\n")):
            self.note(self.crowd.plan.expect.encode() in self.tail and self.head[9:12] == b"200")
            if b"\r\nconnection: close" in self.head:
                self.transport.close()
            else:
                self.call()

    def note(self, good: bool) -> None:
        self.waits = False
        self.crowd.open -= 1
        if not good:
            # Of the answer's body only: requests and keys appear nowhere.
            self.crowd.seen.worst = f"{self.head[9:12].decode()} {self.tail[-200:].decode(errors='replace')}"
        if self.crowd.measuring:
            self.crowd.seen.failed += not good
            self.crowd.seen.calls += good
            if good:
                self.crowd.latencies.append(time.perf_counter() - self.since)
        elif not good:
            self.crowd.seen.failed += 1

    def connection_lost(self, error: Exception | None) -> None:
        if self.waits:
            self.note(False)
        if not self.crowd.over:
            again = Caller(self.crowd).connect(0.01)
            TASKS.append(asyncio.get_running_loop().create_task(again))


TASKS: list[asyncio.Task[None]] = []


def percentile(values: list[float], part: float) -> float:
    """0 if there are no values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0


async def run(plan: Plan, body: bytes) -> Seen:
    """Call as planned."""
    headers = {"host": f"127.0.0.1:{plan.port}", "content-type": "application/json", "accept": "*/*"}
    headers |= {"anthropic-version": "2023-06-01", "content-length": str(len(body))} | plan.headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    crowd = Crowd(plan, f"POST {plan.path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
    for number in range(plan.callers):
        begins = Caller(crowd).connect(plan.spread * number / plan.callers)
        TASKS.append(asyncio.get_running_loop().create_task(begins))
    await asyncio.sleep(plan.spread + plan.warm)
    crowd.measuring = True
    print("begin", flush=True)
    await asyncio.sleep(plan.seconds)
    crowd.measuring, crowd.over = False, True
    print("end", flush=True)
    deadline = time.monotonic() + 60
    while crowd.open and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    seen, delays = crowd.seen, [delay / 1000 for delay in crowd.delays]
    seen.p50, seen.p99 = (percentile(crowd.latencies, part) * 1000 for part in (0.5, 0.99))
    seen.delay50, seen.delay99 = (percentile(delays, part) for part in (0.5, 0.99))
    return seen


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    planned = Plan(**json.load(sys.stdin))
    print(json.dumps(asdict(uvloop.run(run(planned, Path(planned.body).read_bytes())))), flush=True)
