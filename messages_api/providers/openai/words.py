"""What the translations of a request's parts have in common: how they refuse, and read what they were given. Pure."""

from __future__ import annotations

from typing import Any, NoReturn

from messages_api import errors

NOT_HERE = "not available with this model's provider"
# Of a member that the caller made up, in our words about it.
NAME_LENGTH = 60

# A block with its place in the request.
Placed = tuple[str, dict[str, Any]]


def refuse(field: str, why: str) -> NoReturn:
    """Refuse what this protocol has no words for.

    Raises:
        GatewayError: 400.
    """
    raise errors.invalid_request(f"{field}: {why}", reason="not_translatable")


def blocks(content: Any, where: str) -> list[Placed]:
    """The blocks of a content, which may be a text alone, or nothing."""
    if isinstance(content, str):
        return [(where, {"type": "text", "text": content})]
    if content is not None and not isinstance(content, list):
        refuse(where, "Expected string or array")
    placed = [(f"{where}.{index}", block) for index, block in enumerate(content or ())]
    for at, block in placed:
        if not isinstance(block, dict):
            refuse(at, "Expected object")
    return placed


def string(block: dict[str, Any], name: str, where: str) -> str:
    """A member that has to be a text."""
    value = block.get(name)
    if not isinstance(value, str):
        refuse(f"{where}.{name}", "Expected string")
    return value


def kept(breakpoint: dict[str, Any]) -> dict[str, Any]:
    """`cache_control` without what only Anthropic's own API knows of it, like Claude Code's `scope`."""
    return {name: breakpoint[name] for name in ("type", "ttl") if breakpoint.get(name) is not None}
