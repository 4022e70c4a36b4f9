"""Reads some answers to their end after the client has disconnected, because only the end shows what they cost.

This applies only to answers in one piece while the provider's own tools run, because they show nothing before the end.
(A provider may send such an answer although the request asks for a stream.) A stream that has begun shows what the
tools do. So it is closed instead, which is cheaper. DECISIONS.md says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from django.http.response import HttpResponseBase

from messages_api.answer.metering import Reading
from messages_api.relay.call import Call
from usage.models import Status


class ReadingOn:
    """The answers that one process reads on.

    Args:
        most: the most at once.
        seconds: the most time for each.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self.tasks: dict[asyncio.Task[Any], Call] = {}

    async def answer(self, call: Call, making: Coroutine[object, object, HttpResponseBase]) -> HttpResponseBase:
        """Make a call in its own task, which goes on after the client disconnects unless too many do already.

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
        """Read an answer on after its client has left; False if too many are read on already."""
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
        if call in self.tasks.values():  # closing a stream that had not begun has started a task for it
            return
        call.abandon(Status.CLIENT_DISCONNECTED, Reading())  # changes nothing if it is settled

    async def stop(self) -> None:
        """Cancel all of them."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def close(task: asyncio.Task[Any]) -> None:
    """Close the answer that a task returned, because no client waits for it."""
    if not task.cancelled() and task.exception() is None and task.result() is not None:
        task.result().close()
