"""How long an answer may be: what stands in where a request doesn't say, and what a key may not ask for. Pure."""

from __future__ import annotations

from dataclasses import replace

from keys.directory import KnownKey
from messages_api.errors import invalid_request
from messages_api.schema import MessagesRequest


def bounded(key: KnownKey, request: MessagesRequest) -> MessagesRequest:
    """The request as it goes out with this key.

    Raises:
        GatewayError: 400, it names no `max_tokens` and there is no default for them, or asks for more than the key may.
    """
    if request.lacks_max_tokens:
        default = stand_in(key, request)
        if default is None:
            raise invalid_request("max_tokens: Field required")
        request = replace(request, max_tokens=max(request.max_tokens, default))
    check(key, request.max_tokens_in, request.max_tokens)
    return request


def stand_in(key: KnownKey, request: MessagesRequest) -> int | None:
    """The `max_tokens` of a request that names none: the key's default, beside what it may think where that would leave
    nothing to say, and never more than the key may ask for. None: there is no default."""
    default = key.default_max_tokens
    if default is None or default > request.thinking_budget:
        return default
    most = default + request.thinking_budget
    return most if key.max_tokens is None else min(most, key.max_tokens)


def check(key: KnownKey, member: str, asked: int) -> None:
    """Refuse more than the key may ask for.

    Raises:
        GatewayError: 400, with Anthropic's wording for what a model can't write (anthropics/claude-code#24451).
    """
    if key.max_tokens is not None and asked > key.max_tokens:
        raise invalid_request(
            f"{member}: {asked} > {key.max_tokens}, which is the maximum allowed number of output tokens for this"
            " virtual key",
            reason="max_tokens",
        )
