"""Which page gets the next free thread: networks take turns, so that a client with many requests delays only its own.

Part of pages.py.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


class Full(Exception):
    """No more requests may wait, or no more of this network."""


class Places:
    """Counts requests, in all and by network.

    Args:
        most: how many may be there at once; `of_one`: of one network.
    """

    def __init__(self, most: int, of_one: int) -> None:
        self.most, self.of_one = most, of_one
        self.taken: dict[str, int] = {}

    @contextmanager
    def taking(self, network: str) -> Iterator[None]:
        """One place, for as long as the block runs.

        Raises:
            Full: all places are taken, or all of this network.
        """
        of_network = self.taken.get(network, 0)
        if of_network >= self.of_one or sum(self.taken.values()) >= self.most:
            raise Full
        self.taken[network] = of_network + 1
        try:
            yield
        finally:
            self.taken[network] -= 1
            if not self.taken[network]:
                del self.taken[network]


class Turns:
    """Hands out threads. Those that wait are served one of each network in turn, each network's own in their order.

    With few requests, few threads work: the thread that came back last goes first.
    """

    def __init__(self, threads: list[ThreadPoolExecutor]) -> None:
        self.free = threads
        self.waiting: OrderedDict[str, deque[asyncio.Future[ThreadPoolExecutor]]] = OrderedDict()

    async def get(self, network: str) -> ThreadPoolExecutor:
        """A thread, which the caller gives back with `put`."""
        if self.free:
            return self.free.pop()
        turn = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(network, deque()).append(turn)
        try:
            thread: ThreadPoolExecutor = await turn
            return thread
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.put(turn.result())
            raise

    def put(self, thread: ThreadPoolExecutor) -> None:
        while self.waiting:
            network, turns = self.waiting.popitem(last=False)
            while turns and turns[0].done():  # given up meanwhile
                turns.popleft()
            turn = turns.popleft() if turns else None
            if turns:
                self.waiting[network] = turns  # at the end of the line of networks
            if turn is not None:
                turn.set_result(thread)
                return
        self.free.append(thread)
