"""Access tokens of clouds, and whatever else expires that calls are made with: fetched once for all who wait, kept
until shortly before they expire."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import urlsplit

import httpx
from django.conf import settings

from keys import destinations, guarded_http
from keys.errors import Unusable
from keys.provider_kinds import check_object, object_of
from messages_api.bounded_http import MOST_OF_A_TOKEN, bounding
from messages_api.upstream import tls_context

# A machine's own proxies stand here.
LOOPBACK = ("127.0.0.1", "localhost", "::1")

# With less than this left of a token (seconds), another one is fetched while it still serves.
EARLY = 300.0
# With less than this, a call waits for the next.
LEAST = 10.0
# A renewal that failed, or brought no more than there was, is tried again after so long (seconds): metadata servers
# give out the same token until minutes before its end.
AGAIN = 15.0
# Asking for a token takes at most so long.
SECONDS = 15.0


class TokenRefused(Exception):
    """The cloud doesn't take our credentials."""


Secret = TypeVar("Secret", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Token(Generic[Value]):
    """A token; `expires` is Unix time."""

    value: Value = field(repr=False)
    expires: float


# Fetches a token for a provider key's secret.
#
# Raises:
#     TokenRefused: the secret is none.
#     UpstreamError: there was no answer.
Fetch = Callable[[Secret], Awaitable[Token[Value]]]


class Tokens(Generic[Secret, Value]):
    """The tokens of one cloud, by the secret that each is got with (and by where, if that matters)."""

    def __init__(self, fetch: Fetch[Secret, Value]) -> None:
        self.fetch = fetch
        self.known: dict[Secret, Token[Value]] = {}
        self.fetching: dict[Secret, asyncio.Task[Token[Value]]] = {}
        # When each was last renewed, or not.
        self.renewed: dict[Secret, float] = {}

    async def get(self, secret: Secret) -> Value:
        """A token that is good for long enough to make a call.

        Raises:
            TokenRefused: as `Fetch`.
            UpstreamError: likewise.
        """
        token, now = self.known.get(secret), time.time()
        left = token.expires - now if token is not None else 0.0
        if token is not None and (left > EARLY or (left > LEAST and now < self.renewed.get(secret, 0.0) + AGAIN)):
            return token.value
        fetching = self.fetching.get(secret) or self._start(secret)
        if token is not None and left > LEAST:
            return token.value
        return (await asyncio.shield(fetching)).value

    def _start(self, secret: Secret) -> asyncio.Task[Token[Value]]:
        def done(task: asyncio.Task[Token[Value]]) -> None:
            del self.fetching[secret]
            now = time.time()
            self.renewed = {each: at for each, at in self.renewed.items() if at + AGAIN > now}
            self.known = {each: token for each, token in self.known.items() if token.expires > now}
            if secret in self.known:
                self.renewed[secret] = now
            if not task.cancelled() and task.exception() is None:
                self.known[secret] = task.result()

        async def fetch() -> Token[Value]:
            return await self.fetch(secret)

        task = self.fetching[secret] = asyncio.get_running_loop().create_task(fetch())
        task.add_done_callback(done)
        return task


def http_client(direct: Iterable[str] = ()) -> httpx.Client:
    """A client for those who give tokens, which trusts whom the deployment trusts, and goes by its proxy.

    Args:
        direct: hosts that are no farther than the machine: no proxy leads there, and they may be link-local.
    """
    configuration = settings.CONFIGURATION
    direct = list(direct)
    return guarded_http.client(
        destinations.current(metadata=direct),
        timeout=SECONDS,
        tls=tls_context(configuration.ca_bundle),
        proxy=configuration.outbound_proxy,
        direct=direct,
        event_hooks=bounding(MOST_OF_A_TOKEN),
    )


# The machine's own identity is asked for in so many words, `{"identity": "machine"}`: nobody gets it by leaving
# something out.


def check_machine(secret: str, optional: Iterable[str] = ()) -> None:
    """Refuse what doesn't ask for the machine's identity.

    Raises:
        Unusable: it asks for another one, or has members that nobody knows.
    """
    check_object(secret, ("identity",), tuple(optional))
    if object_of(secret)["identity"] != "machine":
        raise Unusable("the secret's identity is none that there is: the only one is “machine”")


def check_taker(secret: str, base_url: str, cloud: re.Pattern[str]) -> None:
    """Refuse to send the machine's tokens to anybody but its cloud: or else whoever may add a provider key could have
    them sent to a server of their own.

    Args:
        cloud: the cloud's own hosts.

    Raises:
        Unusable: that is what would happen.
    """
    if not secret.startswith("{") or "identity" not in object_of(secret) or not base_url:
        return
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if not (parts.scheme == "https" and cloud.fullmatch(host)) and host not in LOOPBACK:
        raise Unusable("the machine's identity is for the cloud's own addresses only: give another secret for this one")
