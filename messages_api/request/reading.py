"""Reads a Messages request once, for everything that the gateway needs to know about it. Pure."""

from __future__ import annotations

import msgspec

from messages_api.request import carried, conversation, plain, schema
from messages_api.request.carried import Name
from messages_api.request.schema import MessagesRequest


class Read(msgspec.Struct, frozen=True):
    """A request that was read.

    Attributes:
        carried: names in it that may be bound to a provider's account.
        opening: a digest of how the conversation began; empty: not asked for.
    """

    request: MessagesRequest
    carried: list[Name]
    opening: str


def read(body: bytes, *, betas: str | None, counting: bool, signatures: bool, opening: bool) -> Read:
    """Check and read a request.

    Args:
        betas: the values of `anthropic-beta`, separated by commas.
        counting: it is a request to count tokens.
        signatures: include signatures in `carried`.
        opening: compute the digest of the opening.

    Raises:
        GatewayError: 400, naming the field and what was expected.
    """
    said = plain.of(body)
    request = schema.read(said, betas=betas, counting=counting, may_lack_max_tokens=True)
    return Read(request, carried.carried(said, signatures=signatures), conversation.opening(said) if opening else "")
