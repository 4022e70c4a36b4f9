"""Clouds' access tokens and other credentials that expire. Each is fetched once for all calls that wait for it, and
kept until shortly before it expires."""

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
from messages_api.upstream.bounded import MOST_OF_A_TOKEN, bounding
from messages_api.upstream.client import tls_context

# Hosts of proxies on the machine itself.
LOOPBACK = ("127.0.0.1", "localhost", "::1")

# With less than this left of a token (seconds), the next one is fetched while calls still use it.
EARLY = 300.0
# With less than this left (seconds), calls wait for the next one.
LEAST = 10.0
# A renewal is repeated after this time (seconds) if it failed or brought no newer token: metadata servers return the
# same token until minutes before it expires.
AGAIN = 15.0
# The time-out of a request for a token (seconds).
SECONDS = 15.0


class TokenRefused(Exception):
    """The cloud refuses the provider key's credentials."""


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
#     TokenRefused: the cloud refuses the secret.
#     UpstreamError: there was no answer.
Fetch = Callable[[Secret], Awaitable[Token[Value]]]


class TokenCache(Generic[Secret, Value]):
    """The tokens of one cloud, by secret (and by region, if that matters)."""

    def __init__(self, fetch: Fetch[Secret, Value]) -> None:
        self.fetch = fetch
        self.known: dict[Secret, Token[Value]] = {}
        self.fetching: dict[Secret, asyncio.Task[Token[Value]]] = {}
        # The time of the last attempt to renew each token.
        self.renewed: dict[Secret, float] = {}

    async def get(self, secret: Secret) -> Value:
        """A token that is valid for long enough to make a call.

        Raises:
            TokenRefused, UpstreamError: as `Fetch`.
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
    """A client for requests for tokens, with the deployment's certificate authorities and proxy.

    Args:
        direct: hosts on the machine itself: they are called without the proxy, and may be link-local.
    """
    configuration = settings.CONFIGURATION
    direct = list(direct)
    return guarded_http.client(
        destinations.current(metadata=direct),
        timeout=SECONDS,
        whole=2 * SECONDS,
        tls=tls_context(configuration.ca_bundle),
        proxy=configuration.outbound_proxy,
        direct=direct,
        event_hooks=bounding(MOST_OF_A_TOKEN),
    )


# Only a secret that says `{"identity": "machine"}` uses the machine's identity. It is never a default.


def check_machine(secret: str, optional: Iterable[str] = ()) -> None:
    """Refuse a JSON secret that doesn't name the machine's identity.

    Raises:
        Unusable: it names another one, or has unknown members.
    """
    check_object(secret, ("identity",), tuple(optional))
    if object_of(secret)["identity"] != "machine":
        raise Unusable("the secret's identity is unknown: the only one is “machine”")


def check_taker(secret: str, base_url: str, cloud: re.Pattern[str]) -> None:
    """Refuse to send the machine's tokens to another server than the cloud's. Otherwise each person who may add a
    provider key could have them sent to their own server.

    Args:
        cloud: the cloud's hosts.

    Raises:
        Unusable: the secret is the machine's identity, and the address isn't the cloud's.
    """
    if not secret.startswith("{") or "identity" not in object_of(secret) or not base_url:
        return
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if not (parts.scheme == "https" and cloud.fullmatch(host)) and host not in LOOPBACK:
        raise Unusable("the machine's identity is for the cloud's own addresses only: use another secret for this one")
