"""A queue for few places: callers take turns, each with one task at a time, the shortest first.

It is local to the process, and knows only the size of a task.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from messages_api.server.errors import GatewayError, unavailable

# The most tasks that may wait.
MOST_WAITING = 200


@dataclass(slots=True, eq=False)
class WaitingTask:
    """A task that waits for a place."""

    size: int
    place: asyncio.Future[int]


class Turns:
    """Places that tasks take in turn.

    Args:
        sizes: for each place, the size of the largest task that it takes (None: any); the smallest first.
        most: tasks that may wait. If there are more, the largest task of the caller with the most tasks is refused.
    """

    def __init__(self, sizes: Sequence[int | None], most: int = MOST_WAITING) -> None:
        self.sizes = sizes
        self.most = most
        self.idle = set(range(len(sizes)))
        self.working: set[Hashable] = set()
        # By caller, in the order of their turns.
        self.waiting: dict[Hashable, list[WaitingTask]] = {}

    @asynccontextmanager
    async def turn(self, caller: Hashable, size: int) -> AsyncIterator[int]:
        """Hold a place in the `with` block.

        Raises:
            GatewayError: as `take`.
        """
        place = await self.take(caller, size)
        try:
            yield place
        finally:
            self.give(caller, place)

    async def take(self, caller: Hashable, size: int) -> int:
        """Wait for the caller's turn and take a place, which must be given back.

        Raises:
            GatewayError: 503, too many tasks wait.
        """
        waiter = WaitingTask(size, asyncio.get_running_loop().create_future())
        insort(self.waiting.setdefault(caller, []), waiter, key=lambda one: one.size)
        self._go_on()
        if sum(map(len, self.waiting.values())) > self.most:
            self._refuse_one()
        try:
            return await asyncio.shield(waiter.place)
        except asyncio.CancelledError:
            if not waiter.place.done():
                self._forget(caller, waiter)
            elif waiter.place.exception() is None:
                self.give(caller, waiter.place.result())
            raise

    def give(self, caller: Hashable, place: int) -> None:
        """Give a place back. The caller goes to the end of the queue."""
        self.working.remove(caller)
        self.idle.add(place)
        if caller in self.waiting:
            self.waiting[caller] = self.waiting.pop(caller)
        self._go_on()

    def _go_on(self) -> None:
        for caller in tuple(self.waiting):
            if not self.idle:
                return
            if caller in self.working:
                continue
            waiter = self.waiting[caller][0]
            place = next((place for place in sorted(self.idle) if self._takes(place, waiter.size)), None)
            if place is None:
                continue
            self.idle.remove(place)
            self.working.add(caller)
            self._forget(caller, waiter)
            waiter.place.set_result(place)

    def _takes(self, place: int, size: int) -> bool:
        most = self.sizes[place]
        return most is None or size <= most

    def _refuse_one(self) -> None:
        caller = max(self.waiting, key=lambda one: len(self.waiting[one]))
        waiter = self.waiting[caller][-1]
        self._forget(caller, waiter)
        waiter.place.set_exception(too_many_wait())

    def _forget(self, caller: Hashable, waiter: WaitingTask) -> None:
        self.waiting[caller].remove(waiter)
        if not self.waiting[caller]:
            del self.waiting[caller]


def too_many_wait() -> GatewayError:
    return unavailable(
        "Too many long request bodies wait to be read: try again shortly.", reason="body_memory", retry_after=1
    )
