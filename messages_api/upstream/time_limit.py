"""A time limit for what each call waits for: `asyncio.timeout`, for less CPU.

`asyncio.timeout` asks for the running loop three times, and each answer costs a system call (`getpid`) in Python 3.11.
A call has four or five time limits.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class within:
    """A time limit for a block that the current task runs: `with within(seconds, loop):`.

    Args:
        seconds: the limit; None: none.
        loop: the running loop.

    Raises:
        TimeoutError: the block took longer. It was cancelled.
    """

    __slots__ = ("before", "expired", "loop", "seconds", "task", "timer")

    def __init__(self, seconds: float | None, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds = seconds
        self.loop = loop
        self.expired = False
        self.timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        if self.seconds is None:
            return
        task = asyncio.current_task(self.loop)
        assert task is not None
        self.task = task
        # Others may have asked to cancel the task before; that is not for this block to take back.
        self.before = task.cancelling()
        self.timer = self.loop.call_later(max(0.0, self.seconds), self.expire)

    def expire(self) -> None:
        self.expired = True
        self.task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.timer is not None:
            self.timer.cancel()
        # If something else cancels the task, too, that cancellation goes on.
        if self.expired and self.task.uncancel() <= self.before and kind is asyncio.CancelledError:
            raise TimeoutError from error
