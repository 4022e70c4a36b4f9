"""The honest customer, in a process of its own. It calls at a steady rate, however slow earlier calls are (an open
loop), and streams every second call. It keeps its connections and uses them by turns, so that each web process gets
some.

For each call it prints when the call was due (`time.monotonic`), the seconds from then to the last byte, and how the
call ended. It exits when its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
A_SECOND = 20
CONNECTIONS = 10
# A call that takes longer counts as failed.
PATIENCE = 25.0
BODY = {"model": "claude-opus-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Has Bob read it?"}]}


@dataclass(frozen=True)
class Felt:
    """One call: when it was due, how long it took, and whether it was answered."""

    due: float
    seconds: float
    ended: str

    @property
    def failed(self) -> bool:
        return self.ended != "ok"


class Customer:
    """The process, and its calls so far."""

    def __init__(self, url: str, key: str) -> None:
        self.felt: list[Felt] = []
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "attacks.customer", url],
            cwd=ROOT,
            env=os.environ | {"KEY": key},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            due, seconds, ended = line.split()
            self.felt.append(Felt(float(due), float(seconds), ended))

    def between(self, begin: float, end: float) -> list[Felt]:
        """The calls that were due in this time and have ended."""
        return [each for each in list(self.felt) if begin <= each.due < end]

    async def all_between(self, begin: float, end: float) -> list[Felt]:
        """The calls that were due in this time, after all of them have ended."""
        deadline = end + PATIENCE + 5
        expected = int((end - begin) * A_SECOND)
        while len(self.between(begin, end)) < expected and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return self.between(begin, end)

    def stop(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self._listener.join()
        self.process.stdout.close()


async def call(client: httpx.AsyncClient, due: float, *, stream: bool) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await client.post("/v1/messages", json=BODY | {"stream": stream})
        whole = answer.status_code == 200 and (not stream or b"event: message_stop" in answer.content)
        ended = "ok" if whole else str(answer.status_code) if answer.status_code != 200 else "cut"
    except TimeoutError:
        ended = "too_late"
    except httpx.HTTPError as error:
        ended = type(error).__name__
    print(due, time.monotonic() - due, ended, flush=True)


async def steadily(url: str, key: str) -> None:
    over = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    # Each client keeps one connection, and opens another only while that one is busy.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=1)
    calls: set[asyncio.Task[None]] = set()
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=None, trust_env=False)  # noqa: S113
            )
            for _ in range(CONNECTIONS)
        ]
        number, begun = 0, time.monotonic()
        while not over.done():
            due = begun + number / A_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(call(clients[number // 2 % CONNECTIONS], due, stream=number % 2 == 1))
            calls.add(task)
            task.add_done_callback(calls.discard)
            number += 1
        for task in calls:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(steadily(sys.argv[1], os.environ["KEY"]))
