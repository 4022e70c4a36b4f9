"""Decides which providers' own keys, sent by callers (PASSTHROUGH_CUSTOMER), are accepted.

A client can make such a key up. So it must have the form of one; an address may try few keys a minute; and a key that
this process has not seen lately is tested with a free request, before the customer's budget holds anything for it. If
the provider has no such free request, no call with the key gets a row until the provider has answered one.
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
from messages_api.callers.process_limits import CallerLimits
from messages_api.providers import Provider, cloud_errors
from messages_api.server import errors
from messages_api.upstream.client import Answer, UpstreamError, read_all

# After the provider's prefix. Anthropic's have 101 characters more (`sk-ant-api03-…`).
SHAPE = re.compile(r"[A-Za-z0-9_-]{16,400}")
# Seconds for which an accepted key isn't tested again, and how many keys are remembered.
TAKEN_SECONDS = 600
CAPACITY = 10_000
# The time-out of a test (seconds), and the most tests at once for one address.
SECONDS = 10.0
AT_ONCE = 10
# The most bytes that are read of a test's answer.
MOST_BYTES = 1 << 20
# Statuses of a provider that has no free request to test a key, and of one that may answer later.
NOTHING_THERE = frozenset((404, 405, 501))
PASSING = frozenset((408, 425, 429))


def looks_like_one(secret: str) -> bool:
    """Whether a credential has the form of the provider's keys."""
    prefix: str = settings.CONFIGURATION.passthrough_prefix
    return secret.startswith(prefix) and SHAPE.fullmatch(secret[len(prefix) :]) is not None


@dataclass(slots=True)
class AcceptedKey:
    """A key that is accepted until a time on the monotonic clock.

    Attributes:
        caller: the network of the client that sent it.
        sure: the provider has accepted it. Otherwise no free request can test it, and its first call will show; until
            then it counts as a failure.
    """

    until: float
    caller: str
    sure: bool


class PassedKeys:
    """The keys that the provider has accepted, by a digest under a key that only this process knows.

    Args:
        failures: how many refused keys an address may send in a minute.
    """

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.pepper = os.urandom(32)
        self.taken: OrderedDict[bytes, AcceptedKey] = OrderedDict()
        self.learning: dict[bytes, asyncio.Task[None]] = {}
        self.tries = CallerLimits()

    def digest(self, secret: str) -> bytes:
        """The digest under which a key is remembered."""
        return hashlib.blake2b(secret.encode(), key=self.pepper, digest_size=16).digest()

    async def check(self, provider: Provider, key: KnownProviderKey, address: str) -> None:
        """Accept a key that is known, or that the provider accepts. Of many calls with the same unknown key, one tests
        it.

        Raises:
            GatewayError: 401, the provider refuses the key; 429, too many keys from this address were refused; 502 or
                503, the provider doesn't say.
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
                    task.exception()  # calls that still wait have the result

            learning.add_done_callback(done)
        await asyncio.shield(learning)

    def is_sure(self, secret: str) -> bool:
        """Whether the provider has accepted a key, in a test or a call."""
        known = self.taken.get(self.digest(secret))
        return known is not None and known.sure

    def note_taken(self, secret: str) -> None:
        """Record that the provider has answered a call with this key."""
        known = self.taken.get(self.digest(secret))
        if known is not None and not known.sure:
            known.sure = True
            self.tries.give_back(known.caller)

    def note_refused(self, secret: str) -> None:
        """Record that the provider has refused a call with this key: it no longer accepts the key, or never did. This
        counts as a failure of the client that sent the key.
        """
        known = self.taken.pop(self.digest(secret), None)
        if known is not None and known.sure:
            self.tries.charge(known.caller, self.failures)

    async def _learn(self, provider: Provider, key: KnownProviderKey, caller: str) -> None:
        verdict = KeyTest.SILENT
        try:
            verdict = await self._try(provider, key)
        finally:
            if verdict in (KeyTest.TAKEN, KeyTest.SILENT):
                self.tries.give_back(caller)
        if verdict is KeyTest.REFUSED:
            raise errors.unauthenticated("The provider refuses this key.", reason="passed_key_refused")
        if verdict is KeyTest.SILENT:
            raise errors.unavailable(
                "The provider doesn't say now whether it accepts this key.", reason="provider_status", retry_after=2
            )
        until = time.monotonic() + TAKEN_SECONDS
        self.taken[self.digest(key.secret)] = AcceptedKey(until, caller, sure=verdict is KeyTest.TAKEN)
        if len(self.taken) > CAPACITY:
            self.taken.popitem(last=False)

    async def _try(self, provider: Provider, key: KnownProviderKey) -> KeyTest:
        """The outcome of the provider's answer.

        Raises:
            GatewayError: 502, there is no answer.
        """
        answer: Answer | None = None
        try:
            async with asyncio.timeout(SECONDS):
                answer = await provider.probe(key, Timeouts(SECONDS, SECONDS, SECONDS, SECONDS))
                assert answer is not None
                if not 200 <= answer.status < 300:
                    return verdict_of(answer.status)
                body = await read_all(answer.read, MOST_BYTES, cut=True)
        except (TimeoutError, UpstreamError):
            raise errors.bad_gateway("The provider can't be reached.", reason="provider_unreachable") from None
        finally:
            if answer is not None:
                answer.close()
        masked = cloud_errors.masked(body)
        if masked is not None:
            return verdict_of(masked[0])
        # A server that answers everything with a page of its own has not checked the key.
        return KeyTest.TAKEN if provider.answers_probe(body) else KeyTest.UNSURE


class KeyTest(Enum):
    """The outcome of a test. UNSURE: the provider has no free request for it. SILENT: the provider doesn't say now."""

    TAKEN = "taken"
    REFUSED = "refused"
    UNSURE = "unsure"
    SILENT = "silent"


def verdict_of(status: int) -> KeyTest:
    """The outcome of a test without a success. A test asks for the models first, then for a count of tokens."""
    if status in NOTHING_THERE:
        return KeyTest.UNSURE
    return KeyTest.SILENT if status in PASSING or status >= 500 else KeyTest.REFUSED
