"""Many connections at once, in a process of its own.

`python -m reliability.crowd HOST PORT KIND COUNT` opens that many connections and keeps them as KIND says: `idle` sends
nothing; `slow` sends the head of a call, a byte now and then; `trickle` sends a whole head and its body a byte at a
time; `bodies` sends whole bodies of 32 MB, all at once, and reads the answers. The key is in the environment (`KEY`).
It prints how many are open, and at the end, by signal or by itself, how they ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections import Counter

IDLE, SLOW, TRICKLE, BODIES = "idle", "slow", "trickle", "bodies"
MEGABYTES = 32
PIECE = b"a" * 65536
AT_ONCE = 200
# Between two bytes of a slow client.
SECONDS = 2.0
# Each of our addresses has a number of ports: connections come from several.
ADDRESSES = 8


def head(length: int) -> bytes:
    key = os.environ.get("KEY", "")
    lines = ["POST /v1/messages HTTP/1.1", "host: localhost", "content-type: application/json"]
    lines += ["anthropic-version: 2023-06-01", f"x-api-key: {key}", f"content-length: {length}", "", ""]
    return "\r\n".join(lines).encode()


class Crowd:
    """The connections, and how they ended."""

    def __init__(self, host: str, port: int, kind: str) -> None:
        self.host, self.port, self.kind = host, port, kind
        self.open = 0
        self.ended: Counter[str] = Counter()
        self.gate = asyncio.Semaphore(AT_ONCE)

    async def one(self, number: int) -> None:
        """Open a connection, and keep it until it ends."""
        try:
            async with self.gate:
                local = (f"127.0.0.{2 + number % ADDRESSES}", 0)
                reader, writer = await asyncio.open_connection(self.host, self.port, local_addr=local)
        except OSError:
            self.ended["not connected"] += 1
            return
        self.open += 1
        try:
            self.ended[await self.keep(reader, writer)] += 1
        except OSError:
            self.ended["closed"] += 1
        finally:
            self.open -= 1
            writer.transport.abort()

    async def keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Do what clients of this kind do; how the connection ended."""
        answer = asyncio.ensure_future(reader.readline())
        try:
            if self.kind == BODIES:
                await self.send_body(writer, answer)
            elif self.kind == TRICKLE:
                writer.write(head(1_000_000) + b'{"model":"')
                await self.drip(writer, b"a" * 100_000, answer)
            elif self.kind == SLOW:
                await self.drip(writer, head(10), answer)
            line = await answer
        finally:
            answer.cancel()
        return line.split()[1].decode() if line.startswith(b"HTTP/1.1 ") else "closed"

    async def drip(self, writer: asyncio.StreamWriter, content: bytes, answer: asyncio.Future[bytes]) -> None:
        for number in range(len(content)):
            if answer.done():
                return
            writer.write(content[number : number + 1])
            await writer.drain()
            await asyncio.sleep(SECONDS)

    async def send_body(self, writer: asyncio.StreamWriter, answer: asyncio.Future[bytes]) -> None:
        before = b'{"model":"claude-opus-5-5","max_tokens":9,"messages":[{"role":"user","content":"call crowd-1 '
        after = b'"}]}'
        pieces = MEGABYTES * 1_000_000 // len(PIECE)
        writer.write(head(len(before) + pieces * len(PIECE) + len(after)) + before)
        for _ in range(pieces):
            if answer.done():
                return
            writer.write(PIECE)
            await writer.drain()
        writer.write(after)


async def main(host: str, port: str, kind: str, count: str) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowd = Crowd(host, int(port), kind)
    tasks = [asyncio.ensure_future(crowd.one(number)) for number in range(int(count))]
    everything = asyncio.gather(*tasks, return_exceptions=True)
    while not over.is_set() and not everything.done():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), 1)
        print(f"open {crowd.open}", flush=True)
    kept = crowd.open
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await everything
    ended = [f"{number} × {how}" for how, number in crowd.ended.most_common()]
    print(f"ended {', '.join([*ended, *([f'{kept} × kept open'] if kept else [])])}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
