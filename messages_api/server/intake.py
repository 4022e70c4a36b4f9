"""Limits the bytes of request bodies that a process reads and holds, in all and for each virtual key.

A virtual key may hold a part of the process's bytes. Its bodies that are being read may not outnumber the calls that it
may make at once. A body that doesn't fit waits for a moment; if it still doesn't fit, it is refused before it is read.
Each process counts for itself, and the arbiter doesn't know the counts. Short bodies pass however much the process
holds. Short bodies that arrive in one piece aren't counted at all: before the arbiter decides about their calls, they
can't add up to much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from messages_api.server.errors import GatewayError, unavailable

# A body of up to this many bytes passes however much the process holds.
SHORT = 64 * 1024
# The most bodies that may wait. Their first bytes are in the process's memory.
MOST_WAITING = 1000
# The most waiting bodies of one virtual key.
MOST_WAITING_OF_KEY = 100

# Returns how many calls a virtual key may make at once; None: any number.
Parallel = Callable[[int], Awaitable[int | None]]


@dataclass(slots=True)
class Held:
    """The count of one virtual key: the bytes of its requests' bodies, and the bodies that are being read."""

    bytes: int = 0
    reading: int = 0


@dataclass(slots=True, eq=False)
class Waiter:
    """A request whose body has to wait."""

    share: Share
    size: int
    parallel: int | None
    granted: asyncio.Future[None]


class Intake:
    """The bodies of one process.

    Args:
        most: the most bytes that the process holds. A single longer body passes while no other is held.
        most_of_key: the same for one virtual key.
        patience: seconds that a body waits for its turn.
        parallel: returns a key's limit of calls at once.
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
        """A new request's share for this virtual key, with nothing in it yet."""
        return Share(self, key)

    def refusal(self, share: Share, size: int, parallel: int | None) -> GatewayError | None:
        """The error for a body of this size that doesn't fit now; None if it fits."""
        of_key = self.keys.get(share.key) or Held()
        if not share.reading and parallel is not None and of_key.reading >= parallel:
            return too_many(parallel)
        if beyond(of_key.bytes - share.bytes, size, self.most_of_key):
            return too_much(self.most_of_key)
        if size > SHORT and beyond(self.bytes - share.bytes, size, self.most):
            return full()
        return None

    def take(self, share: Share, size: int) -> None:
        """Count a body that is let in, or more bytes of it."""
        of_key = self.keys.setdefault(share.key, Held())
        of_key.reading += not share.reading
        of_key.bytes += size - share.bytes
        self.bytes += size - share.bytes
        share.reading, share.bytes = True, size

    async def wait(self, share: Share, size: int, parallel: int | None) -> None:
        """Let a body in once it fits.

        Raises:
            GatewayError: 429 or 503, it doesn't fit in time.
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
        """Count a body as read or (with `all_of_it`) as no longer held, and let in bodies that fit now."""
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
    """The bytes that one request holds. Release it in the end, on every path."""

    __slots__ = ("bytes", "intake", "key", "reading")

    def __init__(self, intake: Intake, key: int) -> None:
        self.intake = intake
        self.key = key
        self.bytes = 0
        self.reading = False

    async def take(self, size: int) -> None:
        """Wait until a body of this many bytes may be read.

        Raises:
            GatewayError: 429, the key has too many bodies or bytes under way; 503, the process has too many bytes.
        """
        if self.reading and size <= self.bytes:
            return
        parallel = None if self.reading else await self.intake.parallel(self.key)
        await self.intake.wait(self, size, parallel)

    def complete(self) -> None:
        """Note that the body has been read and parsed: the next one may be read."""
        self.intake.release(self, all_of_it=False)

    def let_go(self) -> None:
        """Note that nothing of the body is kept any longer."""
        self.intake.release(self, all_of_it=True)


def beyond(others: int, size: int, most: int) -> bool:
    """Whether these bytes are too many beside those of others. If there are no others, any number fits."""
    return others > 0 and others + size > most


def too_many(parallel: int) -> GatewayError:
    return GatewayError(
        429,
        "rate_limit_error",
        f"This virtual key may make {parallel} calls at once, and {parallel} of its request bodies are being read: send"
        " the next one when one of them is read.",
        reason="body_limit",
        retry_after=1,
    )


def too_much(most: int) -> GatewayError:
    return GatewayError(
        429,
        "rate_limit_error",
        f"The open requests of this virtual key hold {most} bytes of request bodies, the most that one key may hold:"
        " send the next one when one of them is answered.",
        reason="body_limit",
        retry_after=1,
    )


def full() -> GatewayError:
    return unavailable(
        "The gateway's memory for request bodies is full: try again shortly.",
        reason="body_memory",
        retry_after=1,
    )
