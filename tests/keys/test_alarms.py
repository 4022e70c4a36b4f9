"""Timers that share one timer of the loop ring in their order, and not after they were cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from keys.alarms import Alarm, Timer, alarm_of
from messages_api.upstream.time_limit import within


class Bell:
    """A timer that notes when it rings."""

    def __init__(self, name: str, rung: list[str]) -> None:
        self.name = name
        self.rung = rung
        self.at = 0.0

    def ring(self) -> None:
        self.rung.append(self.name)


async def test_timers_ring_in_the_order_of_their_times() -> None:
    rung: list[str] = []
    alarm = Alarm(asyncio.get_running_loop())
    for name, seconds in (("third", 0.03), ("first", 0.0), ("second", 0.015)):
        alarm.set(Bell(name, rung), seconds)
    while len(rung) < 3:
        await asyncio.sleep(0.001)
    assert rung == ["first", "second", "third"]
    assert not alarm.waiting


async def test_a_cancelled_timer_does_not_ring_even_if_it_is_due_at_the_same_moment() -> None:
    rung: list[str] = []
    loop = asyncio.get_running_loop()
    last = Timer(loop, 0.02, lambda: rung.append("last"))
    first = Timer(loop, 0.01, last.cancel)
    first.at, last.at = loop.time() - 0.002, loop.time() - 0.001
    while alarm_of(loop).waiting & {first, last}:
        await asyncio.sleep(0.001)
    assert not rung


async def test_a_timer_that_fails_does_not_stop_the_others() -> None:
    rung: list[str] = []
    faults: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: faults.append(context["exception"]))
    Timer(loop, 0, lambda: 1 / 0)  # type: ignore[arg-type]
    Timer(loop, 0.001, lambda: rung.append("rings"))
    while not rung:
        await asyncio.sleep(0.001)
    assert [type(fault) for fault in faults] == [ZeroDivisionError]


async def test_a_block_is_cancelled_at_its_limit_and_an_earlier_limit_comes_first() -> None:
    loop = asyncio.get_running_loop()
    with within(60, loop), pytest.raises(TimeoutError), within(0.01, loop):
        await asyncio.Event().wait()
    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()


class Clock:
    """A loop whose time passes only when it runs."""

    def __init__(self) -> None:
        self.now, self.rings = 0.0, 0
        self.due: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, ring: Callable[[], None]) -> Clock:
        self.due = self.now + seconds, ring
        return self

    def cancel(self) -> None:
        self.due = None


def test_many_timers_at_different_times_ring_together() -> None:
    clock: Any = Clock()
    alarm, rung, late = Alarm(clock), list[str](), list[float]()
    times = [75 + number / 10_000 for number in range(10_000)]
    for at in times:
        alarm.set(Bell(str(at), rung), at)
    while clock.due is not None:
        before = len(rung)
        (clock.now, ring), clock.due = clock.due, None
        clock.rings += 1
        ring()
        late += [clock.now - float(name) for name in rung[before:]]
    assert len(rung) == len(times)
    assert clock.rings < 200
    assert max(late) < 0.03
