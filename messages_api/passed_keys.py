"""Providers' own keys that callers bring (PASSTHROUGH_CUSTOMER): which of them are let in.

A client can make one up. So it must look like one; an address has few tries in a minute; and a key that this process
has not seen lately is tried with a free request first, before anything of the customer's is held for it. Where the
provider has no free request to try it with, no call with it leaves a row before the provider has answered one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

from django.conf import settings

from keys.client_address import network_of
from keys.directory import KnownProviderKey
from keys.timeouts import Timeouts
from messages_api import errors
from messages_api.caller_limits import CallerLimits
from messages_api.providers import Provider, refusals
from messages_api.upstream import Answer, UpstreamError, gathered

# After the provider's prefix. Anthropic's have 101 characters more (`sk-ant-api03-…`).
SHAPE = re.compile(r"[A-Za-z0-9_-]{16,400}")
# Seconds for which a key that the provider has taken isn't tried again, and how many keys are remembered.
TAKEN_SECONDS = 600
CAPACITY = 10_000
# For an answer to a try, and tries of an address at once.
SECONDS = 10.0
AT_ONCE = 10
# More of an answer isn't read.
MOST_BYTES = 1 << 20
# Statuses of a provider that has no way to try a key for nothing, and of one that may say more later.
NOTHING_THERE = frozenset((404, 405, 501))
PASSING = frozenset((408, 425, 429))


def looks_like_one(secret: str) -> bool:
    """Whether a credential may be a key of the provider's."""
    prefix: str = settings.CONFIGURATION.passthrough_prefix
    return secret.startswith(prefix) and SHAPE.fullmatch(secret[len(prefix) :]) is not None


@dataclass(slots=True)
class Taken:
    """A key that is let in until a moment, by the monotonic clock.

    Attributes:
        caller: who brought it.
        sure: the provider has taken it; or else it can't be tried for nothing, and its first call will show. Until then
            it counts as a failure.
    """

    until: float
    caller: str
    sure: bool


class PassedKeys:
    """Which keys the provider has taken, by a digest under a key that this process alone knows.

    Args:
        failures: how many keys that the provider refuses an address may bring in a minute.
    """

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.pepper = os.urandom(32)
        self.taken: OrderedDict[bytes, Taken] = OrderedDict()
        self.learning: dict[bytes, asyncio.Task[None]] = {}
        self.tries = CallerLimits()

    def digest(self, secret: str) -> bytes:
        """What a key is remembered by."""
        return hashlib.blake2b(secret.encode(), key=self.pepper, digest_size=16).digest()

    async def check(self, provider: Provider, key: KnownProviderKey, address: str) -> None:
        """Let a key in: it is known, or the provider takes it. Of many calls with an unknown one, one finds out.

        Raises:
            GatewayError: 401, it doesn't; 429, too many from this address were refused; 502 or 503, it doesn't say.
        """
        name = self.digest(key.secret)
        known = self.taken.get(name)
        if known is not None and known.until > time.monotonic():
            return
        learning = self.learning.get(name)
        if learning is None:
            caller = network_of(address)
            leave = self.tries.enter(caller, self.failures, AT_ONCE, "unknown keys from this address")
            learning = self.learning[name] = asyncio.get_running_loop().create_task(self._learn(provider, key, caller))

            def done(task: asyncio.Task[None]) -> None:
                leave()
                del self.learning[name]
                if not task.cancelled():
                    task.exception()  # those who still wait have it

            learning.add_done_callback(done)
        await asyncio.shield(learning)

    def is_sure(self, secret: str) -> bool:
        """Whether the provider has taken a key, by a try or a call."""
        known = self.taken.get(self.digest(secret))
        return known is not None and known.sure

    def was_taken(self, secret: str) -> None:
        """The provider has answered a call with a key."""
        known = self.taken.get(self.digest(secret))
        if known is not None and not known.sure:
            known.sure = True
            self.tries.give_back(known.caller)

    def was_refused(self, secret: str) -> None:
        """The provider has refused a call with a key: it takes the key no more, or never did. That is a failure of who
        brought it."""
        known = self.taken.pop(self.digest(secret), None)
        if known is not None and known.sure:
            self.tries.charge(known.caller, self.failures)

    async def _learn(self, provider: Provider, key: KnownProviderKey, caller: str) -> None:
        verdict = Verdict.SILENT
        try:
            verdict = await self._try(provider, key)
        finally:
            if verdict in (Verdict.TAKEN, Verdict.SILENT):
                self.tries.give_back(caller)
        if verdict is Verdict.REFUSED:
            raise errors.unauthenticated("The provider refuses this key.", reason="passed_key_refused")
        if verdict is Verdict.SILENT:
            raise errors.unavailable(
                "The provider doesn't say now whether it takes this key.", reason="provider_status", retry_after=2
            )
        until = time.monotonic() + TAKEN_SECONDS
        self.taken[self.digest(key.secret)] = Taken(until, caller, sure=verdict is Verdict.TAKEN)
        if len(self.taken) > CAPACITY:
            self.taken.popitem(last=False)

    async def _try(self, provider: Provider, key: KnownProviderKey) -> Verdict:
        """What the provider's answer says.

        Raises:
            GatewayError: 502, it doesn't answer.
        """
        answer: Answer | None = None
        try:
            async with asyncio.timeout(SECONDS):
                answer = await provider.probe(key, Timeouts(SECONDS, SECONDS, SECONDS, SECONDS))
                assert answer is not None
                if not 200 <= answer.status < 300:
                    return verdict_of(answer.status)
                body = await gathered(answer.read, MOST_BYTES, cut=True)
        except (TimeoutError, UpstreamError):
            raise errors.bad_gateway("The provider can't be reached.", reason="provider_unreachable") from None
        finally:
            if answer is not None:
                answer.close()
        masked = refusals.masked(body)
        if masked is not None:
            return verdict_of(masked[0])
        # What answers everything with a page of its own has not looked at the key.
        return Verdict.TAKEN if provider.answers_probe(body) else Verdict.UNSURE


class Verdict(Enum):
    """The outcome of a try: UNSURE where there is nothing to try it with, SILENT where the provider doesn't say now."""

    TAKEN = "taken"
    REFUSED = "refused"
    UNSURE = "unsure"
    SILENT = "silent"


def verdict_of(status: int) -> Verdict:
    """What a try says that no success answers. A provider is asked for its models first, and then to count tokens."""
    if status in NOTHING_THERE:
        return Verdict.UNSURE
    return Verdict.SILENT if status in PASSING or status >= 500 else Verdict.REFUSED
