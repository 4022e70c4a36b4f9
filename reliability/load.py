"""Clients at a steady rate, in a process of its own. A call is made when it is due, however slow earlier ones are.

`python -m reliability.load OUT PREFIX RATE KINDS URL...` prints nothing; it appends a JSON line per call to OUT: its id
(`PREFIX-NUMBER`), kind, when it was due (`time.monotonic`), the seconds from then to its last byte, and how it ended.
SIGTERM: it makes no more calls, and ends once all are answered. The key is in the environment (`KEY`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from reliability.program import Program

# Each client keeps one connection, and opens another only while that one is busy.
CLIENTS = 12
# A call that takes longer counts as lost.
PATIENCE = 40.0
OK, UNCONNECTED, UNANSWERED = "200", "not connected", "no answer"
JSON, STREAM, BIG, HANG_UP, BATCH = "json", "stream", "big", "hangup", "batch"
# How a call of each kind ends if nothing is wrong.
LEFT = "left"
EXPECTED = {JSON: OK, STREAM: OK, BIG: OK, HANG_UP: LEFT, BATCH: "400"}
BIG_BYTES = 100_000
MESSAGE = re.compile(rb'"message": ?"([^"]{1,150})')
MODEL = "claude-opus-5-5"


@dataclass(frozen=True)
class Call:
    """One call, as its client saw it. `ended`: a status, or what happened instead of an answer; `says`: the message of
    an error. Times are in seconds."""

    id: str
    kind: str
    due: float
    seconds: float
    ended: str
    opened: float = 0.0
    says: str = ""

    @property
    def failed(self) -> bool:
        return self.ended != EXPECTED[self.kind]


class Load:
    """The process. `calls` has those that have ended."""

    def __init__(
        self, folder: Path, urls: Sequence[str], key: str, prefix: str, *, rate: float, kinds: Sequence[str]
    ) -> None:
        self.out = folder / f"calls-{prefix}.jsonl"
        self.out.touch()
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "reliability.load",
            self.out,
            prefix,
            str(rate),
            ",".join(kinds),
            *urls,
        ]
        log = folder / f"load-{prefix}.log"
        self.program = Program("The clients", command, log, {"KEY": key})

    def start(self) -> None:
        self.program.start()

    def calls(self) -> list[Call]:
        lines = self.out.read_text().split("\n")[:-1]
        return [Call(**json.loads(line)) for line in lines]

    def finish(self) -> list[Call]:
        """Stop making calls, and wait for the open ones. Returns all calls."""
        self.program.stop(signal.SIGTERM, PATIENCE + 20)
        if self.program.process is not None and self.program.process.returncode:
            raise RuntimeError(f"The clients failed: {self.program.said()[-2000:]}")
        return self.calls()


def body_of(kind: str, call: str) -> Mapping[str, object]:
    """The body of a call. Its id stands at the beginning of its question."""
    text = f"call {call}: has Bob read it?" + (" Yes, he has." * (BIG_BYTES // 13) if kind == BIG else "")
    asked = {"messages": [{"role": "user", "content": text}], "model": MODEL, "max_tokens": 64}
    if kind == BATCH:
        return {"requests": [{"custom_id": call, "params": asked}]}
    return asked | ({"stream": True} if kind in (STREAM, HANG_UP) else {})


async def make(client: httpx.AsyncClient, url: str, kind: str, call: str) -> tuple[str, str]:
    """Make a call; how it ended, and the message of an error."""
    path = "/v1/messages/batches" if kind == BATCH else "/v1/messages"
    try:
        async with asyncio.timeout(PATIENCE):
            answered = client.stream("POST", url + path, json=body_of(kind, call), headers={"x-request-id": call})
            async with answered as answer:
                if kind == HANG_UP and answer.status_code == 200:
                    async for _ in answer.aiter_raw():
                        return LEFT, ""
                content = await answer.aread()
    except TimeoutError:
        return UNANSWERED, ""
    except httpx.ConnectError:
        return UNCONNECTED, ""
    except httpx.HTTPError as error:
        return "cut off", type(error).__name__
    if answer.status_code != 200:
        return str(answer.status_code), message_of(content)
    if b"event: message_stop" in content if kind in (STREAM, HANG_UP) else is_message(content):
        return OK, ""
    return ("200, then error", message_of(content)) if b"event: error" in content else ("200, then cut", "")


def is_message(content: bytes) -> bool:
    """Whether this is a whole message as JSON."""
    try:
        found = json.loads(content)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("type") == "message" and "usage" in found


def message_of(content: bytes) -> str:
    """The first message in an answer, cut short; it is the gateway's or the fake provider's."""
    found = MESSAGE.search(content)
    return found[1].decode(errors="replace") if found else ""


async def steadily(out: Path, prefix: str, rate: float, kinds: Sequence[str], urls: Sequence[str]) -> None:
    """Make calls until SIGTERM."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    headers = {"x-api-key": os.environ["KEY"], "anthropic-version": "2023-06-01"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=1)
    calls: set[asyncio.Task[None]] = set()
    with out.open("a", buffering=1) as written:
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    httpx.AsyncClient(headers=headers, limits=limits, timeout=None, trust_env=False)
                )
                for _ in range(CLIENTS)
            ]

            async def one(number: int, due: float) -> None:
                kind, call, opened = kinds[number % len(kinds)], f"{prefix}-{number}", time.monotonic()
                client = clients[number // 3 % CLIENTS]
                for turn in range(len(urls)):
                    # A balancer takes another machine if it can't connect to one.
                    ended, says = await make(client, urls[(number + turn) % len(urls)], kind, call)
                    if ended != UNCONNECTED:
                        break
                about = {"id": call, "kind": kind, "due": due, "seconds": time.monotonic() - due, "ended": ended}
                written.write(json.dumps(about | {"opened": opened, "says": says}) + "\n")

            number, begun = 0, time.monotonic()
            while not over.is_set():
                due = begun + number / rate
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), max(0.0, due - time.monotonic()))
                    break
                task = asyncio.create_task(one(number, due))
                calls.add(task)
                task.add_done_callback(calls.discard)
                number += 1
            await asyncio.gather(*calls)


def answers(calls: Sequence[Call]) -> dict[str, int]:
    """How calls ended, and how many so; the most frequent end first."""
    return dict(Counter(call.ended for call in calls).most_common())


def main(out: str, prefix: str, rate: str, kinds: str, *urls: str) -> None:
    asyncio.run(steadily(Path(out), prefix, float(rate), kinds.split(","), urls))


if __name__ == "__main__":
    main(*sys.argv[1:])
