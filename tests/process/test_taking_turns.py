"""Where few may work at a time, callers take turns."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.process.taking_turns import Turns
from messages_api.request import batch_body
from messages_api.server.errors import GatewayError
from messages_api.stored import batch_making


class Scene:
    """Work that ends when it is said to, and the order in which it began."""

    def __init__(self, *sizes: int | None, most: int = 200) -> None:
        self.turns = Turns(sizes, most)
        self.begun: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.ends: dict[str, asyncio.Event] = {}

    async def begin(self, name: str, size: int = 1) -> asyncio.Task[None]:
        """The first letter of the name is the caller's."""
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._work(name, size))
        await asyncio.sleep(0)
        return self.tasks[name]

    async def _work(self, name: str, size: int) -> None:
        async with self.turns.turn(name[0], size):
            self.begun.append(name)
            await self.ends[name].wait()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self.tasks[name]
        for _ in range(5):
            await asyncio.sleep(0)


async def test_callers_take_turns_and_short_work_of_one_comes_first() -> None:
    scene = Scene(None)
    for name, size in (("a0", 9), ("a1", 9), ("a2", 3), ("b0", 9), ("b1", 1), ("c0", 50)):
        await scene.begin(name, size)
    for _ in range(6):
        await scene.end(scene.begun[-1])
    assert scene.begun == ["a0", "b1", "c0", "a2", "b0", "a1"]


async def test_a_caller_works_at_one_place_at_a_time_and_long_work_leaves_one_to_short() -> None:
    scene = Scene(4, None)
    for name, size in (("a0", 9), ("a1", 1), ("b0", 9), ("c0", 4), ("d0", 4)):
        await scene.begin(name, size)
    assert scene.begun == ["a0", "c0"]
    await scene.end("c0")
    assert scene.begun == ["a0", "c0", "d0"]
    await scene.end("a0")
    assert scene.begun == ["a0", "c0", "d0", "b0"]
    await scene.end("d0")
    assert scene.begun[4:] == ["a1"]


async def test_if_too_much_waits_the_last_task_of_the_caller_with_most_is_a_503() -> None:
    scene = Scene(None, most=3)
    for name in ("a0", "a1", "a2", "a3"):
        await scene.begin(name)
    await scene.begin("b0")
    with pytest.raises(GatewayError) as caught:
        await scene.tasks["a3"]
    assert (caught.value.status_code, caught.value.retry_after) == (503, 1)
    for _ in range(4):
        await scene.end(scene.begun[-1])
    assert scene.begun == ["a0", "b0", "a1", "a2"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.sampled_from(["begin", "end", "cancel"]))))
def test_no_place_is_lost_however_tasks_end(steps: list[tuple[str, int, str]]) -> None:
    async def play() -> None:
        scene = Scene(4, None, most=4)
        for at, (caller, size, step) in enumerate(steps):
            if step == "begin":
                await scene.begin(f"{caller}{at}", size)
            for name, task in scene.tasks.items():
                if step != "begin" and name[0] == caller and not task.done():
                    scene.ends[name].set() if step == "end" else task.cancel()
                    break
            assert len(scene.turns.working) + len(scene.turns.idle) == 2
        for end in scene.ends.values():
            end.set()
        for task in scene.tasks.values():
            with suppress(GatewayError, asyncio.CancelledError):
                await task
        assert (scene.turns.idle, scene.turns.working, scene.turns.waiting) == ({0, 1}, set(), {})

    asyncio.run(play())


async def test_a_short_batch_waits_for_no_long_one_and_long_ones_take_turns() -> None:
    runtime: Any = SimpleNamespace(reading_batches=Turns([None]))
    order: list[str] = []
    go_on = asyncio.Event()

    async def read(key: Any, size: int) -> None:
        body: Any = SimpleNamespace(size=size)
        caller: Any = SimpleNamespace(runtime=runtime, name=key)
        async with batch_making.turn_to_read(caller, body):
            order.append(key)
            if size > batch_body.SHORT:
                await go_on.wait()

    long = [asyncio.create_task(read(key, 59_000_000)) for key in ("alice", "alice", "alice", "bob")]
    await asyncio.sleep(0)
    await read("carol", 127)
    assert order == ["alice", "carol"]
    go_on.set()
    await asyncio.gather(*long)
    assert order == ["alice", "carol", "bob", "alice", "alice"]
