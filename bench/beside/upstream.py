"""A fake provider: answers at once, and streams at once, every 10 ms or every 500 ms.

A process of its own, which prints its three ports (one for each pace) as JSON, and exits when its standard input ends.
Streams with a pace have the time in each event, so that a client sees how long the event was on its way.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import partial
from typing import cast

import uvloop

from bench.beside import bodies

# Seconds between events, and events with text, of each port.
PACES = {"at once": (0.0, bodies.PIECES), "events": (0.010, bodies.PIECES), "slow": (0.5, 15)}

ANSWER = bodies.answer()
HEAD = b"HTTP/1.1 200 OK\r\nrequest-id: req_011CQ\r\n"
JSON = HEAD + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
STREAM = HEAD + b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
# 16 digits after an @ are microseconds of the machine's monotonic clock.
STAMP = b"@%016d"
DELTA = bodies.delta("the price is a string @0000000000000000 ").replace(b"@0000000000000000", STAMP)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


FIRST = STREAM + chunk(bodies.beginning())
LAST = chunk(bodies.end()) + b"0\r\n\r\n"
WHOLE = FIRST + chunk(DELTA % 0) * bodies.PIECES + LAST


class Connection(asyncio.Protocol):
    """One connection of a gateway, kept alive. Requests have a length or chunks, and wait for their answers."""

    def __init__(self, pace: float, pieces: int) -> None:
        self.pace, self.pieces = pace, pieces
        self.seen = bytearray()
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is no subclass.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.seen += data
        end = self.seen.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.seen[:end]).lower()
        _, named, length = head.partition(b"content-length:")
        if named:
            if len(self.seen) < end + 4 + int(length.split(b"\r\n", 1)[0]):
                return
        elif not self.seen.endswith(b"0\r\n\r\n"):
            return
        streams = b'"stream":true' in self.seen or b'"stream": true' in self.seen
        self.seen.clear()
        if not streams:
            self.transport.write(JSON)
        elif not self.pace:
            self.transport.write(WHOLE)
        else:
            self.transport.write(FIRST)
            self.go_on(self.pieces, self.loop.time() + self.pace)

    def go_on(self, left: int, due: float) -> None:
        """Send one event when it is due, and the next after it; streams keep their pace."""
        self.loop.call_at(due, self.send, left, due)

    def send(self, left: int, due: float) -> None:
        if self.transport.is_closing():
            return
        if left:
            self.transport.write(chunk(DELTA % (time.monotonic_ns() // 1000)))
            self.go_on(left - 1, due + self.pace)
        else:
            self.transport.write(LAST)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    ports = {}
    for name, (pace, pieces) in PACES.items():
        server = await loop.create_server(partial(Connection, pace, pieces), "127.0.0.1", 0, backlog=4096)
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(serve())
