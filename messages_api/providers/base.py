"""What the relay asks of a provider, and what it gets back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from keys.directory import KnownProviderKey
from keys.provider_kinds import ProviderKind, register
from keys.timeouts import DEPLOYMENTS, Timeouts
from messages_api.lenient import is_count, mapping
from messages_api.outline import decode
from messages_api.upstream import Answer, Body, Headers, OnWrite, UpstreamClient


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


# A provider that refuses our key or account with these is our trouble, not the caller's.
ACCOUNT_STATUSES = frozenset((401, 402, 403))
COUNT_TOKENS = "/v1/messages/count_tokens"
JSON = (b"content-type", b"application/json")
# The version of Anthropic's API that the gateway asks in its own name by.
VERSION = b"2023-06-01"
# What Anthropic says of a model whose release date is unknown.
EPOCH = "1970-01-01T00:00:00Z"


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


class Inconclusive(Exception):
    """A provider answers a probe, and that says nothing about the secret; the message says why, for administrators."""


# Asks a provider with a GET, by address, headers and query, for JSON.
#
# Raises:
#     ValueError: it isn't JSON. (Others that are the asker's own affair pass through.)
Get = Callable[[str, Headers, Mapping[str, str | int]], object]


class Provider(ProviderKind):
    """Speaks one provider's protocol; its answers are Anthropic's, byte for byte where the provider is Anthropic."""

    # Whether it can be asked which models it has.
    lists_models: ClassVar[bool] = False

    def __init__(self, client: UpstreamClient) -> None:
        self.client = client

    async def send(self, call: Outgoing) -> Answer:
        """Make the call and wait for the headers of the answer.

        Raises:
            UpstreamError: there was none.
            GatewayError: 400 or 404, the provider has no way to do what is asked; nothing was sent.
        """
        raise NotImplementedError

    async def probe(self, key: KnownProviderKey, timeouts: Timeouts) -> Answer | None:
        """Ask for something that costs nothing and that is given to who has the secret only, the way calls are made.
        None: there is nothing to try.

        Raises:
            UpstreamError: there was no answer.
            Inconclusive: there was, and it can't tell.
        """
        return None

    async def count(self, key: KnownProviderKey, timeouts: Timeouts) -> Answer | None:
        """Have the tokens of a word counted, where a probe may be answered without that. None: it is not.

        Raises:
            UpstreamError: there was no answer.
        """
        return None

    def answers_probe(self, body: bytes) -> bool:
        """Whether this is what was asked for."""
        return is_count(mapping(decode(body)).get("input_tokens"))

    def refuses_probe_only(self, message: str) -> bool:
        """Whether a refusal of a probe means that it is not allowed, though calls may be."""
        return False

    def is_about_us(self, status: int, body: bytes) -> bool:
        """Whether an error is about our own key or account there, and so no business of the caller's."""
        return status in ACCOUNT_STATUSES

    @classmethod
    def list_models(cls, base_url: str, secret: str, get: Get) -> Iterator[Any]:
        """The models that there are, each described as Anthropic does; those that aren't are left out by whoever asks.

        Args:
            base_url: empty, it is the provider's own.

        Raises:
            ValueError: what it says is no list of models.
        """
        raise NotImplementedError


def counting_probe(key: KnownProviderKey, model: str, timeouts: Timeouts) -> Outgoing:
    """A probe that counts the tokens of a word.

    Args:
        model: whose, where the provider key names none.
    """
    named = next((pattern for pattern in key.model_patterns if "*" not in pattern), model)
    body = json.dumps({"model": named, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    given = [JSON, (b"anthropic-version", VERSION)]
    return Outgoing("POST", COUNT_TOKENS, b"", given, body, key, lambda: None, named, timeouts)


Speaking = TypeVar("Speaking", bound=type[Provider])
# Those that there are, by name.
SPOKEN: dict[str, type[Provider]] = {}


def speaks(provider: Speaking) -> Speaking:
    """Make a provider known to all who have to know of it."""
    SPOKEN[provider.name] = register(provider)
    return provider


def model_info(
    name: str,
    *,
    display_name: str = "",
    created_at: str = EPOCH,
    max_input_tokens: int | None = None,
    max_tokens: int | None = None,
) -> dict[str, Any]:
    """A model as Anthropic describes one, with what is known of it."""
    return {
        "type": "model",
        "id": name,
        "display_name": display_name or name,
        "created_at": created_at,
        "lifecycle": "active",
        "max_input_tokens": max_input_tokens,
        "max_tokens": max_tokens,
        "capabilities": None,
    }
