"""Which page gets the next free thread: networks take turns, so that a client with many requests delays only its own.

A page may take long: each of its statements may run for half a minute. So a network never has all threads, and a
session or token has half of them at most. Part of pages.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field


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


@dataclass(slots=True, eq=False)
class Turn:
    """A request that waits for a thread, or has one.

    Attributes:
        asker: the session or token; empty: none.
    """

    network: str
    asker: bytes
    given: asyncio.Future[ThreadPoolExecutor] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Turns:
    """Hands out threads. Those that wait are served one of each network in turn, each network's own in their order.

    With few requests, few threads work: the thread that came back last goes first.

    Attributes:
        of_network, of_asker: the threads that one network, and one session or token, may have at once.
    """

    def __init__(self, threads: list[ThreadPoolExecutor]) -> None:
        self.free = threads
        self.of_network, self.of_asker = max(1, len(threads) - 1), max(1, len(threads) // 2)
        self.waiting: OrderedDict[str, deque[Turn]] = OrderedDict()
        self.holders: dict[ThreadPoolExecutor, Turn] = {}
        self.held: Counter[str | bytes] = Counter()

    async def get(self, network: str, asker: bytes = b"") -> ThreadPoolExecutor:
        """A thread, which the caller gives back with `put`."""
        turn = Turn(network, asker)
        if self.free and self._may_have(turn):
            return self._give(turn)
        self.waiting.setdefault(network, deque()).append(turn)
        try:
            return await turn.given
        except asyncio.CancelledError:
            if turn.given.done() and not turn.given.cancelled():
                self.put(turn.given.result())
            raise

    def put(self, thread: ThreadPoolExecutor) -> None:
        """Take a thread back, and hand it to a request that waits and may have one."""
        holder = self.holders.pop(thread)
        self._count(holder, -1)
        self.free.append(thread)
        while self.free and (turn := self._next()) is not None:
            turn.given.set_result(self._give(turn))

    def _next(self) -> Turn | None:
        """The next request that may have a thread, which waits no more."""
        for network in list(self.waiting):
            turns = self.waiting[network] = deque(each for each in self.waiting[network] if not each.given.done())
            turn = next(filter(self._may_have, turns), None)
            if turn is not None:
                turns.remove(turn)
                self.waiting.move_to_end(network)  # the end of the line of networks
            if not turns:
                del self.waiting[network]
            if turn is not None:
                return turn
        return None

    def _may_have(self, turn: Turn) -> bool:
        asker_may = not turn.asker or self.held[turn.asker] < self.of_asker
        return asker_may and self.held[turn.network] < self.of_network

    def _give(self, turn: Turn) -> ThreadPoolExecutor:
        thread = self.free.pop()
        self.holders[thread] = turn
        self._count(turn, 1)
        return thread

    def _count(self, turn: Turn, by: int) -> None:
        names: list[str | bytes] = [turn.network, *([turn.asker] if turn.asker else [])]
        for name in names:
            self.held[name] += by
            if not self.held[name]:
                del self.held[name]
