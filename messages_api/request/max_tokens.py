"""The key's default for a missing `max_tokens`, and its ceiling. Pure."""

from __future__ import annotations

from dataclasses import replace

from keys.directory import KnownKey
from messages_api.request.schema import MessagesRequest
from messages_api.server.errors import invalid_request


def bounded(key: KnownKey, request: MessagesRequest) -> MessagesRequest:
    """The request with the key's default and ceiling for `max_tokens` applied.

    Raises:
        GatewayError: 400, it has no `max_tokens` and the key no default, or it asks for more than the key's ceiling.
    """
    if request.lacks_max_tokens:
        default = stand_in(key, request)
        if default is None:
            raise invalid_request("max_tokens: Field required")
        request = replace(request, max_tokens=max(request.max_tokens, default))
    check(key, request.max_tokens_in, request.max_tokens)
    return request


def stand_in(key: KnownKey, request: MessagesRequest) -> int | None:
    """The `max_tokens` for a request without one: the key's default. If the thinking budget would leave nothing of it
    for the answer, the default is added to that budget. It never exceeds the key's ceiling. None: there is no default.
    """
    default = key.default_max_tokens
    if default is None or default > request.thinking_budget:
        return default
    most = default + request.thinking_budget
    return most if key.max_tokens is None else min(most, key.max_tokens)


def check(key: KnownKey, member: str, asked: int) -> None:
    """Refuse a value above the key's ceiling.

    Raises:
        GatewayError: 400, in Anthropic's wording for more than a model can write (anthropics/claude-code#24451).
    """
    if key.max_tokens is not None and asked > key.max_tokens:
        raise invalid_request(
            f"{member}: {asked} > {key.max_tokens}, which is the maximum allowed number of output tokens for this"
            " virtual key",
            reason="max_tokens",
        )
