"""How many bytes of request bodies a process takes in and holds, and for whom.

A virtual key has a part of them, the process the whole; and a key reads no more bodies at once than it may make calls,
until each is understood. What doesn't fit waits for a moment, and is refused before its body is read. The arbiter knows
nothing of this: each process counts for itself. Short bodies pass however much the process holds, and those that are
there in one piece are not counted at all: they can't add up to much before the arbiter has seen their calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from messages_api.errors import GatewayError, unavailable

# Bytes of a body that needs no room of the process's.
SHORT = 64 * 1024
# Bodies that may wait; their first bytes are in the process's memory.
MOST_WAITING = 1000
# Of one virtual key.
MOST_WAITING_OF_KEY = 100

# How many calls at once a virtual key may make; None: any number.
Parallel = Callable[[int], Awaitable[int | None]]


@dataclass(slots=True)
class Held:
    """What a virtual key's requests hold: bytes of their bodies, and how many of these are being read."""

    bytes: int = 0
    reading: int = 0


@dataclass(slots=True, eq=False)
class Waiter:
    """A request whose body doesn't fit in yet."""

    share: Share
    size: int
    parallel: int | None
    granted: asyncio.Future[None]


class Intake:
    """The bodies of one process.

    Args:
        most: bytes that it holds at most. A single body that is longer passes while no other is held.
        most_of_key: the same for one virtual key.
        patience: seconds that a body waits for its turn.
        parallel: asks for a key's limit of calls at once.
    """

    def __init__(self, most: int, most_of_key: int, patience: float, parallel: Parallel) -> None:
        self.most = most
        self.most_of_key = most_of_key
        self.patience = patience
        self.parallel = parallel
        self.bytes = 0
        self.keys: dict[int, Held] = {}
        self.waiting: list[Waiter] = []

    def share(self, key: int) -> Share:
        """The part of a request that this virtual key makes."""
        return Share(self, key)

    def refusal(self, share: Share, size: int, parallel: int | None) -> GatewayError | None:
        """Why a body of this size has to wait; None where it may come in."""
        of_key = self.keys.get(share.key) or Held()
        if not share.reading and parallel is not None and of_key.reading >= parallel:
            return too_many(parallel)
        if beyond(of_key.bytes - share.bytes, size, self.most_of_key):
            return too_much(self.most_of_key)
        if size > SHORT and beyond(self.bytes - share.bytes, size, self.most):
            return full()
        return None

    def take(self, share: Share, size: int) -> None:
        """Count a body that comes in, or as much more of it."""
        of_key = self.keys.setdefault(share.key, Held())
        of_key.reading += not share.reading
        of_key.bytes += size - share.bytes
        self.bytes += size - share.bytes
        share.reading, share.bytes = True, size

    async def wait(self, share: Share, size: int, parallel: int | None) -> None:
        """Let a body in once it fits.

        Raises:
            GatewayError: 429 or 503, it doesn't in time.
        """
        if (refusal := self.refusal(share, size, parallel)) is None:
            return self.take(share, size)
        of_key = sum(waiter.share.key == share.key for waiter in self.waiting)
        if of_key >= MOST_WAITING_OF_KEY or len(self.waiting) >= MOST_WAITING:
            raise refusal
        waiter = Waiter(share, size, parallel, asyncio.get_running_loop().create_future())
        self.waiting.append(waiter)
        try:
            async with asyncio.timeout(self.patience):
                await waiter.granted
        except TimeoutError:
            raise self.refusal(share, size, parallel) or refusal from None
        finally:
            if waiter in self.waiting:
                self.waiting.remove(waiter)

    def release(self, share: Share, *, all_of_it: bool) -> None:
        """Count that a body is understood, or that it is held no longer, and let in bodies that wait for that."""
        of_key = self.keys.get(share.key)
        if of_key is None or not (share.reading or share.bytes):
            return
        of_key.reading -= share.reading
        share.reading = False
        if all_of_it:
            of_key.bytes -= share.bytes
            self.bytes -= share.bytes
            share.bytes = 0
        if not (of_key.bytes or of_key.reading):
            del self.keys[share.key]
        for waiter in tuple(self.waiting):
            if self.refusal(waiter.share, waiter.size, waiter.parallel) is None and not waiter.granted.done():
                self.take(waiter.share, waiter.size)
                self.waiting.remove(waiter)
                waiter.granted.set_result(None)


class Share:
    """What one request holds. Let go of it in the end, on every path."""

    __slots__ = ("bytes", "intake", "key", "reading")

    def __init__(self, intake: Intake, key: int) -> None:
        self.intake = intake
        self.key = key
        self.bytes = 0
        self.reading = False

    async def take(self, size: int) -> None:
        """Have a turn at reading, and room for this many bytes.

        Raises:
            GatewayError: 429, the key has too many under way, or too much; 503, the process has.
        """
        if self.reading and size <= self.bytes:
            return
        parallel = None if self.reading else await self.intake.parallel(self.key)
        await self.intake.wait(self, size, parallel)

    def complete(self) -> None:
        """The body is there and understood: another may be read."""
        self.intake.release(self, all_of_it=False)

    def let_go(self) -> None:
        """Nothing of it is kept any longer."""
        self.intake.release(self, all_of_it=True)


def beyond(others: int, size: int, most: int) -> bool:
    """Whether bytes are too many beside those of others; alone, any number may come."""
    return others > 0 and others + size > most


def too_many(parallel: int) -> GatewayError:
    return GatewayError(
        429,
        "rate_limit_error",
        f"This virtual key may make {parallel} calls at once, and the bodies of as many are just being read: send the"
        " next one when one of them is read.",
        reason="body_limit",
        retry_after=1,
    )


def too_much(most: int) -> GatewayError:
    return GatewayError(
        429,
        "rate_limit_error",
        f"The request bodies of this virtual key that are under way take {most} bytes, which is all that one key may"
        " take: send the next one when one of them is answered.",
        reason="body_limit",
        retry_after=1,
    )


def full() -> GatewayError:
    return unavailable(
        "The gateway holds as many bytes of request bodies as it may: try again shortly.",
        reason="body_memory",
        retry_after=1,
    )
