"""Answers that are read to their end though the client has hung up, so that it is known what they cost.

Only where the provider's own tools run and nothing is seen of it before the end: an answer in one piece. A stream shows
what was done, so it is closed, which is cheaper for everybody. DECISIONS.md says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial

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
        self.tasks: set[asyncio.Task[HttpResponseBase]] = set()

    async def answer(self, call: Call, making: Coroutine[object, object, HttpResponseBase]) -> HttpResponseBase:
        """Make a call in a task of its own, which goes on when the client hangs up, where there is room.

        Raises:
            GatewayError: there is no answer.
        """
        task = asyncio.get_running_loop().create_task(making)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done() or not self._may_go_on(call):
                task.cancel()
                raise
            call.read_on = True
            self.tasks.add(task)
            timer = asyncio.get_running_loop().call_later(self.seconds, task.cancel)
            task.add_done_callback(partial(self._ended, call, timer))
            raise

    def _may_go_on(self, call: Call) -> bool:
        return call.http_request.client_gone and call.sent and call.attempting and len(self.tasks) < self.most

    def _ended(self, call: Call, timer: asyncio.TimerHandle, task: asyncio.Task[HttpResponseBase]) -> None:
        timer.cancel()
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is None:
            task.result().close()
        call.abandon(Status.CLIENT_DISCONNECTED, Reading())  # changes nothing where it was settled

    async def stop(self) -> None:
        """End them all."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
