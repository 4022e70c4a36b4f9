"""Limits how often a caller may call, counted by each process in memory: for calls that cost nothing (counting tokens,
models, files, requests about batches, quotas), for calls with a provider's own key, and for unknown provider's keys.

It costs no query. A caller that reaches all processes can make that number of calls in each of them, which is still a
bound.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from messages_api.callers import quota
from messages_api.server.errors import GatewayError

# Above this number, callers are forgotten once their limits are full again.
CAPACITY = 100_000


@dataclass(slots=True)
class CallRate:
    """A caller's use: when its bucket (GCRA, `rpm` requests) is full again, and how many of its calls are under way."""

    rpm: int
    full_at: float = 0.0
    running: int = 0


class CallerLimits:
    """Limits of requests a minute and of calls at once. A bucket has the same size as that of other limits
    (usage_bucket in usage/arbiter/applying.sql)."""

    def __init__(self) -> None:
        self.paces: OrderedDict[Hashable, CallRate] = OrderedDict()

    def enter(self, caller: Hashable, rpm: int, parallel: int, what: str) -> Callable[[], None]:
        """Count a call that begins. Returns the function to call at its end.

        Args:
            what: the kind of calls that the limits are for, in words for the caller.

        Raises:
            GatewayError: 429, the call comes too soon, or too many are under way.
        """
        now = time.monotonic()
        pace = self.paces.get(caller)
        if pace is None:
            self._forget(now)
            pace = self.paces[caller] = CallRate(rpm)
        else:
            self.paces.move_to_end(caller)
        if pace.running >= parallel:
            raise too_many(f"Limit of {parallel} {what} at once for this key: wait until one has ended.", 1)
        if pace.rpm != rpm:
            pace.rpm, pace.full_at = rpm, now
        interval, burst = 60 / rpm, min(rpm, max(10, rpm // 6))
        full_at = max(pace.full_at, now)
        wait = full_at - now - (burst - 1) * interval
        if wait > 0:
            seconds = math.ceil(wait)
            message = f"Limit of {rpm} {what} a minute, {burst} at once, for this key: try again in {seconds} s."
            raise too_many(message, seconds, rpm)
        pace.full_at = full_at + interval
        pace.running += 1

        def leave() -> None:
            pace.running -= 1

        return leave

    def give_back(self, caller: Hashable) -> None:
        """Uncount a call that doesn't count after all."""
        if pace := self.paces.get(caller):
            pace.full_at -= 60 / pace.rpm

    def charge(self, caller: Hashable, rpm: int) -> None:
        """Count another call."""
        if pace := self.paces.get(caller):
            pace.full_at = max(pace.full_at, time.monotonic()) + 60 / rpm

    def _forget(self, now: float) -> None:
        """Drop the callers that have been silent for longest, if their limits are full again."""
        while self.paces:
            caller, pace = next(iter(self.paces.items()))
            if pace.running or (pace.full_at > now and len(self.paces) < CAPACITY):
                return
            del self.paces[caller]


def too_many(message: str, seconds: int, rpm: int | None = None) -> GatewayError:
    """The error for a call that a limit refuses. `rpm`: the limit, if it is one of requests a minute."""
    stands = []
    if rpm is not None:
        again = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        stands = [{"kind": "rpm", "limit": rpm, "remaining": 0, "reset": again}]
    return GatewayError(
        429, "rate_limit_error", message, reason="limit", retry_after=seconds, headers=quota.standing(stands)
    )
