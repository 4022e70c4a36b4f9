"""What the relay asks of a provider, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from keys.directory import KnownProviderKey
from keys.timeouts import DEPLOYMENTS, Timeouts
from messages_api.upstream import Answer, Body, Headers, OnWrite


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A call on its way to a provider: the caller's request as it came (but for the name of its model, which is the
    provider's), the key to make it with, whom to tell when it goes out, and how long it may take."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: Body
    provider_key: KnownProviderKey
    on_write: OnWrite
    model: str = ""
    timeouts: Timeouts = DEPLOYMENTS


JSON = (b"content-type", b"application/json")


class Whole:
    """An answer that is all there."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    async def read(self) -> bytes:
        body, self.body = self.body, b""
        return body

    def close(self) -> None:
        """Nothing is open."""


def named(answer: Answer, names: tuple[bytes, ...]) -> Answer:
    """The answer with its provider's name for the request as `request-id`, the header that clients know, where it has
    none."""
    found = dict(reversed(answer.headers))
    if b"request-id" not in found:
        name = next((name for name in names if name in found), None)
        if name is not None:
            answer.headers.append((b"request-id", found[name]))
    return answer


class Provider(Protocol):
    """Speaks one provider's protocol; its answers are Anthropic's, byte for byte where the provider is Anthropic."""

    async def send(self, call: Outgoing) -> Answer:
        """Make the call and wait for the headers of the answer.

        Raises:
            UpstreamError: there was none.
            GatewayError: 400 or 404, the provider has no way to do what is asked; nothing was sent.
        """
