"""Timers that seldom ring, on one timer of the event loop.

A call has about seven time limits, and nearly all of them end before they are reached. A timer of uvloop's own costs
three microseconds; one of these is an entry in a set, and the loop's timer moves only if an earlier one comes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

# Seconds by which a timer may ring early: loops round to milliseconds.
ROUNDING = 0.001
# Seconds between two rings for each timer that waits: a ring looks at all of them, for a tenth of a microsecond each.
# With 10,000 idle connections, one may end 20 ms late.
PACE = 2e-6


class Rings(Protocol):
    """What an alarm keeps: it rings at a time of the loop's clock."""

    at: float

    def ring(self) -> None: ...


class Alarm:
    """The timers of one event loop."""

    __slots__ = ("handle", "loop", "next", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: set[Rings] = set()
        self.next = math.inf
        self.handle: asyncio.TimerHandle | None = None

    def set(self, timer: Rings, seconds: float) -> None:
        """Let a timer ring after these seconds, unless it is taken out of `waiting` before."""
        timer.at = at = self.loop.time() + max(0.0, seconds)
        self.waiting.add(timer)
        if at < self.next:
            self._wait_until(at)

    def _wait_until(self, at: float) -> None:
        if self.handle is not None:
            self.handle.cancel()
        self.next = at
        self.handle = None if at == math.inf else self.loop.call_later(max(0.0, at - self.loop.time()), self._ring)

    def _ring(self) -> None:
        now = self.loop.time() + ROUNDING
        due = sorted((timer for timer in self.waiting if timer.at <= now), key=lambda timer: timer.at)
        for timer in due:
            if timer in self.waiting:  # none before it has ended what it waits for
                self.waiting.discard(timer)
                try:
                    timer.ring()
                except Exception as error:
                    self.loop.call_exception_handler({"message": "a timer failed", "exception": error})
        first = min([timer.at for timer in self.waiting], default=math.inf)
        self._wait_until(max(first, self.loop.time() + len(self.waiting) * PACE))


_last: Alarm | None = None


def alarm_of(loop: asyncio.AbstractEventLoop) -> Alarm:
    """An alarm of this loop. A process has one loop, so the last one is remembered."""
    global _last
    if _last is None or _last.loop is not loop:
        _last = Alarm(loop)
    return _last


class Timer:
    """A function that is called after some seconds: `loop.call_later` for what is nearly always cancelled."""

    __slots__ = ("alarm", "at", "ring")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, ring: Callable[[], None]) -> None:
        self.ring = ring
        self.at = 0.0
        self.alarm = alarm_of(loop)
        self.alarm.set(self, seconds)

    def cancel(self) -> None:
        self.alarm.waiting.discard(self)
