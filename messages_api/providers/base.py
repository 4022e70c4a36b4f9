"""The interface between the relay and a provider."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import msgspec

from keys.directory import KnownProviderKey
from keys.provider_kinds import ProviderKind, register
from keys.timeouts import DEPLOYMENTS, Timeouts
from messages_api.json_text.lenient import is_count, mapping
from messages_api.json_text.outline import decode
from messages_api.upstream.client import Answer, Body, Headers, OnWrite, UpstreamClient


class Outgoing(msgspec.Struct, frozen=True):
    """A call to a provider: the client's request with the provider's name of the model, the provider key, a callback
    for the moment when the first byte is sent, and the time-outs."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: Body
    provider_key: KnownProviderKey
    on_write: OnWrite
    model: str = ""
    timeouts: Timeouts = DEPLOYMENTS


# Statuses by which a provider refuses the gateway's key or account. They are not the client's mistake.
ACCOUNT_STATUSES = frozenset((401, 402, 403))
COUNT_TOKENS = "/v1/messages/count_tokens"
JSON = (b"content-type", b"application/json")
# The version of Anthropic's API in the gateway's own requests.
VERSION = b"2023-06-01"
# Anthropic's value for an unknown release date of a model.
EPOCH = "1970-01-01T00:00:00Z"


class Whole:
    """An answer that has arrived completely."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    async def read(self) -> bytes:
        body, self.body = self.body, b""
        return body

    def close(self) -> None:
        """There is no connection to close."""


def add_request_id(answer: Answer, names: tuple[bytes, ...]) -> Answer:
    """Add the header `request-id`, which clients know, to an answer that has the provider's id under another name."""
    found = dict(reversed(answer.headers))
    if b"request-id" not in found:
        name = next((name for name in names if name in found), None)
        if name is not None:
            answer.headers.append((b"request-id", found[name]))
    return answer


class Inconclusive(Exception):
    """A provider answers a probe, but the answer doesn't show whether the secret is valid. The message says why, for
    administrators."""


# Sends a GET with an address, headers and a query, and returns the JSON of the answer.
#
# Raises:
#     ValueError: the answer isn't JSON. (Exceptions of the HTTP client pass through.)
Get = Callable[[str, Headers, Mapping[str, str | int]], object]


class Provider(ProviderKind):
    """Speaks one provider's protocol. Its answers have Anthropic's format; those of Anthropic itself are unchanged."""

    # Whether the provider can list its models.
    lists_models: ClassVar[bool] = False

    def __init__(self, client: UpstreamClient) -> None:
        self.client = client

    async def send(self, call: Outgoing) -> Answer:
        """Make the call and wait for the headers of the answer.

        Raises:
            UpstreamError: there was no answer.
            GatewayError: 400 or 404, the provider doesn't support what the client asks for; nothing was sent.
        """
        raise NotImplementedError

    async def probe(self, key: KnownProviderKey, timeouts: Timeouts) -> Answer | None:
        """Send a request that costs nothing and that needs the secret, in the same way as a call. None: this provider
        needs no check.

        Raises:
            UpstreamError: there was no answer.
            Inconclusive: the answer doesn't show whether the secret is valid.
        """
        return None

    async def count(self, key: KnownProviderKey, timeouts: Timeouts) -> Answer | None:
        """Count the tokens of a word, if `probe` may send something else. None: it always counts tokens.

        Raises:
            UpstreamError: there was no answer.
        """
        return None

    def answers_probe(self, body: bytes) -> bool:
        """Whether a successful answer is what the probe asks for."""
        return is_count(mapping(decode(body)).get("input_tokens"))

    def refuses_probe_only(self, message: str) -> bool:
        """Whether a refused probe only shows that the key may not send probes, while it may still make calls."""
        return False

    def is_about_us(self, status: int, body: bytes) -> bool:
        """Whether an error is about the gateway's own key or account, so that the client must not see it."""
        return status in ACCOUNT_STATUSES

    @classmethod
    def list_models(cls, base_url: str, secret: str, get: Get) -> Iterator[Any]:
        """The provider's models in Anthropic's format. The caller skips malformed ones.

        Args:
            base_url: of the provider key; empty: the provider's own.

        Raises:
            ValueError: the answer is no list of models.
        """
        raise NotImplementedError


def counting_probe(key: KnownProviderKey, model: str, timeouts: Timeouts) -> Outgoing:
    """A probe that counts the tokens of a word.

    Args:
        model: the model, if the provider key names none.
    """
    named = next((pattern for pattern in key.model_patterns if "*" not in pattern), model)
    body = json.dumps({"model": named, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    given = [JSON, (b"anthropic-version", VERSION)]
    return Outgoing("POST", COUNT_TOKENS, b"", given, body, key, lambda: None, named, timeouts)


Speaking = TypeVar("Speaking", bound=type[Provider])
# All providers, by name.
SPOKEN: dict[str, type[Provider]] = {}


def speaks(provider: Speaking) -> Speaking:
    """Register a provider with the relay and with the admin's kinds of providers."""
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
    """A model in Anthropic's format, with the known values."""
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
