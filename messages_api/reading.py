"""What a Messages request means: read once, from its plain spelling. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from messages_api import carried, conversation, plain, schema
from messages_api.carried import Name
from messages_api.schema import MessagesRequest


@dataclass(frozen=True, slots=True)
class Read:
    """A request, what it carries that may be bound to an account, and the digest of how its conversation began: empty
    where that wasn't asked for."""

    request: MessagesRequest
    carried: list[Name]
    opening: str


def read(body: bytes, *, betas: str | None, counting: bool, signatures: bool, opening: bool) -> Read:
    """What a request means.

    Args:
        betas: the values of `anthropic-beta`, separated by commas.
        counting: it is to count tokens.
        signatures: whether these are of interest, among what is carried.

    Raises:
        GatewayError: 400, naming the field and what was expected.
    """
    said = plain.of(body)
    request = schema.read(said, betas=betas, counting=counting, may_lack_max_tokens=True)
    return Read(request, carried.carried(said, signatures=signatures), conversation.opening(said) if opening else "")
