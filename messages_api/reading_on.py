"""Answers that are read to their end though the client has disconnected, so that it is known what they cost.

Only where the provider's own tools run and nothing is seen of it before the end: an answer in one piece, which a
provider may give where a stream was asked for, too. A stream shows what was done, so it is closed once it has begun,
which is cheaper. DECISIONS.md says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from django.http.response import HttpResponseBase

from messages_api.call import Call
from messages_api.metering import Reading
from usage.models import Status


class ReadingOn:
    """Those of one process.

    Args:
        most: how many at once.
        seconds: that each may take.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self.tasks: dict[asyncio.Task[Any], Call] = {}

    async def answer(self, call: Call, making: Coroutine[object, object, HttpResponseBase]) -> HttpResponseBase:
        """Make a call in a task of its own, which goes on when the client disconnects, where there is room.

        Raises:
            GatewayError: there is no answer.
        """
        task = asyncio.get_running_loop().create_task(making)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():
                close(task)
            elif self._may_go_on(call):
                self._keep(call, task)
            else:
                task.cancel()
            raise

    def begin(self, call: Call, going: Callable[[], Coroutine[object, object, None]]) -> bool:
        """Read on in what a client has left; whether there is room."""
        if not self._may_go_on(call):
            return False
        self._keep(call, asyncio.get_running_loop().create_task(going()))
        return True

    def _keep(self, call: Call, task: asyncio.Task[Any]) -> None:
        call.read_on = True
        self.tasks[task] = call
        timer = asyncio.get_running_loop().call_later(self.seconds, task.cancel)
        task.add_done_callback(partial(self._ended, call, timer))

    def _may_go_on(self, call: Call) -> bool:
        return call.http_request.client_gone and call.attempt.sent and call.attempting and len(self.tasks) < self.most

    def _ended(self, call: Call, timer: asyncio.TimerHandle, task: asyncio.Task[Any]) -> None:
        timer.cancel()
        self.tasks.pop(task, None)
        close(task)
        if call in self.tasks.values():  # a stream that has still to begin
            return
        call.abandon(Status.CLIENT_DISCONNECTED, Reading())  # changes nothing where it was settled

    async def stop(self) -> None:
        """End them all."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def close(task: asyncio.Task[Any]) -> None:
    """Close the answer that a task returned, for no client waits for it."""
    if not task.cancelled() and task.exception() is None and task.result() is not None:
        task.result().close()
