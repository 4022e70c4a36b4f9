"""Providers' own keys that callers bring (PASSTHROUGH_CUSTOMER): which of them are let in.

Anybody can make one up. So it must look like one; an address has few tries in a minute; and a key that this process
has not seen lately is tried with a free request first, before anything of the customer's is held for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections import OrderedDict

from django.conf import settings

from keys.client_address import network_of
from keys.directory import KnownProviderKey
from keys.timeouts import Timeouts
from messages_api import errors
from messages_api.caller_limits import CallerLimits
from messages_api.providers import Provider
from messages_api.upstream import UpstreamError

# After the provider's prefix. Anthropic's have 101 characters more (`sk-ant-api03-…`).
SHAPE = re.compile(r"[A-Za-z0-9_-]{16,400}")
# So long a key that the provider has taken isn't tried again, and so many are remembered.
TAKEN_SECONDS = 600
CAPACITY = 10_000
# For an answer to a try, and tries of an address at once.
SECONDS = 10.0
AT_ONCE = 10


def looks_like_one(secret: str) -> bool:
    """Whether a credential may be a key of the provider's."""
    prefix: str = settings.CONFIGURATION.passthrough_prefix
    return secret.startswith(prefix) and SHAPE.fullmatch(secret[len(prefix) :]) is not None


class PassedKeys:
    """Which keys the provider has taken, by a digest under a key that this process alone knows.

    Args:
        failures: how many keys that the provider refuses an address may bring in a minute.
    """

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.pepper = os.urandom(32)
        self.taken: OrderedDict[bytes, float] = OrderedDict()
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
        if self.taken.get(name, 0.0) > time.monotonic():
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

    def was_refused(self, secret: str) -> None:
        """The provider takes a key no more."""
        self.taken.pop(self.digest(secret), None)

    async def _learn(self, provider: Provider, key: KnownProviderKey, caller: str) -> None:
        status = 0
        try:
            status = await self._try(provider, key)
        finally:
            if status != 401:
                self.tries.give_back(caller)
        if status == 401:
            raise errors.unauthenticated("The provider refuses this key.", reason="passed_key_refused")
        if status == 429 or status >= 500:
            raise errors.unavailable(
                "The provider doesn't say now whether it takes this key.", reason="provider_status", retry_after=2
            )
        self.taken[self.digest(key.secret)] = time.monotonic() + TAKEN_SECONDS
        if len(self.taken) > CAPACITY:
            self.taken.popitem(last=False)

    async def _try(self, provider: Provider, key: KnownProviderKey) -> int:
        """The status of the provider's answer.

        Raises:
            GatewayError: 502, there is none.
        """
        try:
            async with asyncio.timeout(SECONDS):
                answer = await provider.probe(key, Timeouts(SECONDS, SECONDS, SECONDS, SECONDS))
        except (TimeoutError, UpstreamError):
            raise errors.bad_gateway("The provider can't be reached.", reason="provider_unreachable") from None
        assert answer is not None
        answer.close()
        return answer.status
