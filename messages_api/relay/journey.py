"""Chooses the next target of a call, and when to try it: the targets of its plan in order, without those that cool
down, with pauses. docs/routing.md has the rules in words.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from functools import cached_property
from typing import NamedTuple

from keys.cooldowns import Cooldowns, KnownCooldown
from keys.models import CooldownReason
from messages_api.relay.routing import Plan, Target
from messages_api.server import errors, headers
from messages_api.server.errors import GatewayError
from messages_api.upstream.client import Headers

# Seconds of the pauses. Each is a random part (full jitter) of a time that doubles with each round.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
# A waiting call checks every so often (seconds) whether another call has found that the provider key recovered.
LOOK_SECONDS = 1.0
# The most digits of a client's own time-out that are read. A longer number is no limit in practice.
LONGEST_TIMEOUT = 6
# Seconds by which clocks may differ.
MARGIN = 0.01


class Deadlines(NamedTuple):
    """Times on the monotonic clock: until when a request may wait for attempts, and when its client gives up."""

    waits: float
    client_leaves: float


def deadlines(seconds: float, request: Headers) -> Deadlines:
    """The deadlines of a request.

    Args:
        seconds: how long it may wait. If half of the client's own time-out (`x-stainless-timeout`) is less, that
            applies.
    """
    now, patience = time.monotonic(), headers.value_of(request, b"x-stainless-timeout")
    if not patience.isdecimal() or len(patience) > LONGEST_TIMEOUT:
        return Deadlines(now + seconds, math.inf)
    return Deadlines(now + min(seconds, int(patience) / 2), now + int(patience))


class Journey:
    """Chooses which target is next, and when.

    Attributes:
        insists: the call is made although the provider key may be cooling down: it probes the provider key, or it has
            no other target.
    """

    def __init__(
        self, cooldowns: Cooldowns, plan: Plan, request: Headers, deadline: float, *, most: int, tries: bool
    ) -> None:
        self.cooldowns = cooldowns
        self.plan = plan
        self.deadline = deadline
        self.most = most
        # A client that retries by itself gets one attempt for each of its own.
        again = headers.value_of(request, b"x-stainless-retry-count") not in ("", "0")
        self.total = 1 if again or not tries else self.most * len(plan)
        self.tries = tries
        self.stage = 0
        self.made = 0
        self.made_in_all = 0
        self.tried: set[Target] = set()
        self.out: set[Target] = set()
        self.insists = not tries

    @cached_property
    def models(self) -> set[tuple[str, str]]:
        """The models that may answer: each with its provider, by the provider's name of the model."""
        return {(target.provider_key.provider, target.sold) for stage in self.plan for target in stage if target.model}

    def may_leave(self, target: Target) -> bool:
        """Whether an attempt at another target may follow one at this target."""
        if self.made_in_all >= self.total:
            return False
        others = any(each != target and each not in self.out for each in self.plan[self.stage])
        return (others and self.made < self.most) or self.stage + 1 < len(self.plan)

    async def next(self) -> Target | None:
        """Wait until the next attempt may be made, and return its target; None: no further attempt may be made."""
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
        """The target that is ready first, among those that were tried or cool down, after a pause that grows."""
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** max(0, self.made - 1))
        jitter = random.uniform(0, pause)  # noqa: S311
        ready = time.monotonic() + (jitter if self.made else 0.0)
        while stage:
            now = time.monotonic()
            waits = {target: self._cools_for(target, now) for target in stage}
            target = min(waits, key=waits.__getitem__)
            if waits[target] and self.stage + 1 < len(self.plan):
                return None  # a fallback answers sooner
            # Calls that wait for the same provider key must not all start at the same moment.
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
        """Give up the probe of a provider key, because the call was refused before it: another call may probe."""
        if self.tries and self.insists:
            await self.cooldowns.give_back(target.provider_key, target.model)

    def closed(self) -> GatewayError:
        """The error if every target cools down, so that no attempt may be made."""
        found = [self.cooldowns.of(target.provider_key, target.model) for stage in self.plan for target in stage]
        cooldown = min((one for one in found if one is not None), key=lambda one: one.until, default=None)
        return cooling(cooldown)


def cooling(cooldown: KnownCooldown | None) -> GatewayError:
    """The error for a call if all its provider keys cool down."""
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
