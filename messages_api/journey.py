"""Where a call goes next, and when: over the places that its plan has, past those that cool down, after pauses.

docs/routing.md has the rules in words.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import NamedTuple

from keys.cooldowns import Cooldowns, KnownCooldown
from keys.models import CooldownReason
from messages_api import errors, headers
from messages_api.errors import GatewayError
from messages_api.routing import Plan, Target
from messages_api.upstream import Headers

# Seconds. Full jitter: a random part of these, which double with each round.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
# Seconds between two looks of a waiting call whether another call has found the provider key well.
LOOK_SECONDS = 1.0
# Digits of a client's own patience; more of them are as good as no limit.
LONGEST_TIMEOUT = 6
# Clocks differ a little.
MARGIN = 0.01


class Deadlines(NamedTuple):
    """By the monotonic clock: until when a request may wait for attempts, and when its client gives up."""

    waits: float
    client_leaves: float


def deadlines(seconds: float, request: Headers) -> Deadlines:
    """Those of a request.

    Args:
        seconds: that it may wait; or half of the client's own patience (`x-stainless-timeout`) where that is less.
    """
    now, patience = time.monotonic(), headers.value_of(request, b"x-stainless-timeout")
    if not patience.isdecimal() or len(patience) > LONGEST_TIMEOUT:
        return Deadlines(now + seconds, math.inf)
    return Deadlines(now + min(seconds, int(patience) / 2), now + int(patience))


class Journey:
    """Which target is next, and when.

    Attributes:
        insists: the provider key may be cooling down for all others: this call tries whether it is well again, or is
            made once and nowhere else.
    """

    def __init__(
        self, cooldowns: Cooldowns, plan: Plan, request: Headers, deadline: float, *, most: int, tries: bool
    ) -> None:
        self.cooldowns = cooldowns
        self.plan = plan
        self.deadline = deadline
        self.most = most
        # A client that tries again by itself gets one for each of its own.
        again = headers.value_of(request, b"x-stainless-retry-count") not in ("", "0")
        self.total = 1 if again or not tries else self.most * len(plan)
        self.tries = tries
        self.stage = 0
        self.made = 0
        self.made_in_all = 0
        self.tried: set[Target] = set()
        self.out: set[Target] = set()
        self.insists = not tries

    def models(self) -> set[tuple[str, str]]:
        """Which models may answer: providers, and the names by which they sell the model."""
        return {
            (target.provider_key.provider, target.sold_as()) for stage in self.plan for target in stage if target.model
        }

    def may_leave(self, target: Target) -> bool:
        """Whether an attempt elsewhere may follow one at this target."""
        if self.made_in_all >= self.total:
            return False
        others = any(each != target and each not in self.out for each in self.plan[self.stage])
        return (others and self.made < self.most) or self.stage + 1 < len(self.plan)

    async def next(self) -> Target | None:
        """The target of the next attempt, once it may be made; None: no further one may be made."""
        while self.made_in_all < self.total and self.stage < len(self.plan):
            target = await self._in_stage() if self.made < self.most else None
            if target is not None:
                self.made += 1
                self.made_in_all += 1
                self.tried.add(target)
                return target
            self.stage += 1
            self.made = 0
        return None

    async def _in_stage(self) -> Target | None:
        stage = [target for target in self.plan[self.stage] if target not in self.out]
        for target in stage:
            if target not in self.tried and await self._is_open(target):
                return target
        return await self._round_again(stage)

    async def _round_again(self, stage: list[Target]) -> Target | None:
        """Of those that were tried or cool down, who is ready first, after a pause that grows."""
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** max(0, self.made - 1))
        jitter = random.uniform(0, pause)  # noqa: S311
        ready = time.monotonic() + (jitter if self.made else 0.0)
        while stage:
            now = time.monotonic()
            waits = {target: self._cools_for(target, now) for target in stage}
            target = min(waits, key=waits.__getitem__)
            if waits[target] and self.stage + 1 < len(self.plan):
                return None  # a fallback answers sooner
            # Calls that waited for the same provider key are not made all at once.
            wait = max(waits[target] + jitter if waits[target] else 0.0, ready - now)
            if not wait and await self._is_open(target):
                return target
            if now + wait > self.deadline:
                return None
            await asyncio.sleep(min(wait or LOOK_SECONDS, LOOK_SECONDS))
        return None

    def _cools_for(self, target: Target, now: float) -> float:
        cooldown = self.cooldowns.of(target.provider_key, target.model)
        return 0.0 if cooldown is None else cooldown.until - now + MARGIN

    async def _is_open(self, target: Target) -> bool:
        if not self.tries:
            return True
        provider_key, model = target.provider_key, target.model
        if self.cooldowns.of(provider_key, model) is not None:
            return False
        self.insists = self.cooldowns.needs_trial(provider_key, model)
        return not self.insists or await self.cooldowns.claim(provider_key, model)

    async def leave_trial(self, target: Target) -> None:
        """The call was refused before it could try the provider key: another call may."""
        if self.tries and self.insists:
            await self.cooldowns.give_back(target.provider_key, target.model)

    def closed(self) -> GatewayError:
        """Why no attempt may be made at all: every target cools down."""
        found = [self.cooldowns.of(target.provider_key, target.model) for stage in self.plan for target in stage]
        cooldown = min((one for one in found if one is not None), key=lambda one: one.until, default=None)
        return cooling(cooldown)


def cooling(cooldown: KnownCooldown | None) -> GatewayError:
    """The error for a call whose provider keys all cool down."""
    seconds = 1 if cooldown is None else max(1, -int(-(cooldown.until - time.monotonic()) // 1))
    if cooldown is not None and cooldown.reason == CooldownReason.REFUSED:
        return errors.account_refused()
    if cooldown is not None and cooldown.reason == CooldownReason.RATE_LIMITED:
        message = (
            f"The provider's rate limit is reached on every provider key for this model: try again in {seconds} s."
        )
        return GatewayError(429, "rate_limit_error", message, reason="provider_limit", retry_after=seconds)
    return errors.unavailable(
        f"The provider keeps failing on every provider key for this model: try again in {seconds} s.",
        reason="provider_failing",
        retry_after=seconds,
    )
