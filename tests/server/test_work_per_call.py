"""What one call costs the web process, without a clock: the Python functions that are called, and the blocks of memory
that stay allocated after it.

The figures are the least of many calls, which doesn't depend on how busy the machine is: a heartbeat or an answer of
the database in two parts only adds. If a test fails, see which functions were added. Raise the figure only if the new
work is needed; lower it if a change saves more than the margin.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from messages_api.relay import runtime
from messages_api.server import handler
from messages_api.server.known_callers import LEAVES
from tests.support.gateway import Caller, ask, credentials, issue

# Python functions of a call with the provider echo, and by how much (a part of it) a change may exceed them.
JSON_CALL, STREAMED_CALL, LONG_CALL, MARGIN = 710, 893, 1434, 0.03
# Blocks that a call may leave until the next garbage collection: it left 14 when this was written.
MOST_LEFT = 20
# The packages whose objects no finished call may leave to the garbage collector.
OURS = frozenset(("gateway_project", "messages_api", "usage", "keys", "rest_framework"))
CALLS = 20

Call = Callable[[], Awaitable[None]]


async def call(alice: Caller, body: bytes) -> bytes:
    """Make one call through the handler; the body of its answer."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/messages",
        "query_string": b"",
        "client": ("127.0.0.1", 4711),
        "state": {LEAVES: lambda gone: None},  # as the server offers it
        "headers": [
            *((name.encode(), value.encode()) for name, value in credentials(alice.key).items()),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ],
    }
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        # A client that stays connected sends nothing more.
        return messages.pop() if messages else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.create_task(handler.handle(scope, receive, send))
    assert sent[0]["status"] == 200
    return b"".join(message["body"] for message in sent[1:])


async def count_functions(make: Call) -> int:
    """The least number of Python functions that a call calls."""
    counts = []
    for _ in range(CALLS):
        count = 0

        def profile(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += event == "call"

        sys.setprofile(profile)
        try:
            await make()
        finally:
            sys.setprofile(None)
        counts.append(count)
        await asyncio.sleep(0.01)  # its settlement is written
    return min(counts)


async def count_blocks_left(make: Call) -> int:
    """The least number of blocks that a call leaves allocated, without a garbage collection."""
    left = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(CALLS):
            before = sys.getallocatedblocks()
            for _ in range(10):
                await make()
            await asyncio.sleep(0.05)
            left.append((sys.getallocatedblocks() - before) // 10)
    finally:
        gc.enable()
    return min(left)


async def cycles_left(make: Call) -> list[object]:
    """The program's objects that only the garbage collector frees after a few calls."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(CALLS):
            await make()
        await asyncio.sleep(0.05)
        gc.collect()
        return [each for each in gc.garbage if type(each).__module__.partition(".")[0] in OURS]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.fixture
def alice_apart(apart: str, tmp_path: Any, settings: Any) -> Caller:
    """Alice, who calls echo, in a database of her own; the spool is empty."""
    settings.SPOOL_DIR = tmp_path / "spool"
    return issue(None)


def long_conversation() -> bytes:
    """A request of about 100 kB: tools, turns that use them, and text that isn't ASCII."""
    schema = {"type": "object", "properties": {"pattern": {"type": "string", "description": "what to look for"}}}
    tools = [
        {"name": f"search_{n}", "description": "Looks for lines. " * 40, "input_schema": schema} for n in range(20)
    ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Find out why the total is wrong."}]
    for n in range(60):
        use = {"type": "tool_use", "id": f"toolu_{n}", "name": "search_3", "input": {"pattern": "total", "limit": n}}
        found = [{"type": "text", "text": "return sum(row.price)  # in €\n" * 40}]
        messages.append({"role": "assistant", "content": [{"type": "text", "text": "I look for it."}, use]})
        result = {"type": "tool_result", "tool_use_id": use["id"], "content": found}
        messages.append({"role": "user", "content": [result]})
    return json.dumps(ask(tools=tools, messages=messages), ensure_ascii=False).encode()


BODIES = {
    "JSON": (json.dumps(ask(stream=False)).encode(), JSON_CALL, b"output_tokens"),
    "a stream": (json.dumps(ask(stream=True)).encode(), STREAMED_CALL, b"message_stop"),
    "JSON of 100 kB": (long_conversation(), LONG_CALL, b"output_tokens"),
}


@pytest.mark.parametrize("kind", BODIES)
async def test_a_call_takes_no_more_functions_and_leaves_no_more_memory_than_before(
    alice_apart: Caller, kind: str
) -> None:
    body, expected, end = BODIES[kind]

    async def make() -> None:
        answer = await call(alice_apart, body)
        assert end in answer

    await runtime.start()
    try:
        for _ in range(CALLS):
            await make()  # caches fill
        functions, left = await count_functions(make), await count_blocks_left(make)
        cycles = await cycles_left(make)
    finally:
        await runtime.stop()
    assert not cycles
    assert left <= MOST_LEFT
    assert expected * (1 - MARGIN) <= functions <= expected * (1 + MARGIN)
