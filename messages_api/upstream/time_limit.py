"""A time limit for what each call waits for: `asyncio.timeout`, for less CPU.

`asyncio.timeout` asks for the running loop three times, and each answer costs a system call (`getpid`) in Python 3.11.
It also starts a timer of the loop's own (alarms.py). A call has four or five time limits.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from keys.alarms import Alarm, alarm_of


class within:
    """A time limit for a block that the current task runs: `with within(seconds, loop):`.

    Args:
        seconds: the limit; None: none.
        loop: the running loop.

    Raises:
        TimeoutError: the block took longer. It was cancelled.
    """

    __slots__ = ("alarm", "at", "before", "expired", "loop", "seconds", "task")

    def __init__(self, seconds: float | None, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds = seconds
        self.loop = loop
        self.expired = False
        self.at = 0.0
        self.alarm: Alarm | None = None

    def __enter__(self) -> None:
        if self.seconds is None:
            return
        task = asyncio.current_task(self.loop)
        assert task is not None
        self.task = task
        # Others may have asked to cancel the task before; that is not for this block to take back.
        self.before = task.cancelling()
        self.alarm = alarm_of(self.loop)
        self.alarm.set(self, self.seconds)

    def ring(self) -> None:
        self.expired = True
        self.task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.alarm is not None:
            self.alarm.waiting.discard(self)
            self.alarm = None
        # If something else cancels the task, too, that cancellation goes on.
        if self.expired and self.task.uncancel() <= self.before and kind is asyncio.CancelledError:
            raise TimeoutError from error
