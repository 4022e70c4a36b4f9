"""Access tokens of clouds: fetched once for all who wait, kept until shortly before they expire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

# With less than this left of a token (seconds), another one is fetched while it still serves.
EARLY = 300.0
# With less than this, a call waits for the next.
LEAST = 10.0
# Asking for a token takes at most so long.
SECONDS = 15.0


class TokenRefused(Exception):
    """The cloud doesn't take our credentials."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token; `expires` is Unix time."""

    value: str = field(repr=False)
    expires: float


# Fetches a token for a provider key's secret.
#
# Raises:
#     TokenRefused: the secret is none.
#     UpstreamError: there was no answer.
Fetch = Callable[[str], Awaitable[Token]]


class Tokens:
    """The tokens of one cloud, by the secret that each is got with."""

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self.known: dict[str, Token] = {}
        self.fetching: dict[str, asyncio.Task[Token]] = {}

    async def get(self, secret: str) -> str:
        """A token that is good for long enough to make a call.

        Raises:
            TokenRefused: as `Fetch`.
            UpstreamError: likewise.
        """
        token = self.known.get(secret)
        left = token.expires - time.time() if token is not None else 0.0
        if token is not None and left > EARLY:
            return token.value
        fetching = self.fetching.get(secret) or self._start(secret)
        if token is not None and left > LEAST:
            return token.value
        return (await asyncio.shield(fetching)).value

    def _start(self, secret: str) -> asyncio.Task[Token]:
        def done(task: asyncio.Task[Token]) -> None:
            del self.fetching[secret]
            if not task.cancelled() and task.exception() is None:
                now = time.time()
                self.known = {each: token for each, token in self.known.items() if token.expires > now}
                self.known[secret] = task.result()

        async def fetch() -> Token:
            return await self.fetch(secret)

        task = self.fetching[secret] = asyncio.get_running_loop().create_task(fetch())
        task.add_done_callback(done)
        return task
