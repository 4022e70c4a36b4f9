"""Helpers for the translation of a request: refusals, and reading blocks and members. Pure."""

from __future__ import annotations

from typing import Any, NoReturn

from messages_api.server import errors

NOT_HERE = "not available with this model's provider"
# The most characters of a client's unknown member in an error message.
NAME_LENGTH = 60

# A block with its place in the request.
Placed = tuple[str, dict[str, Any]]


def refuse(field: str, why: str) -> NoReturn:
    """Refuse something that this protocol can't express.

    Raises:
        GatewayError: 400.
    """
    raise errors.invalid_request(f"{field}: {why}", reason="not_translatable")


def blocks(content: Any, where: str) -> list[Placed]:
    """The blocks of a content, which may also be a text, or null."""
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
    """A member that must be a text."""
    value = block.get(name)
    if not isinstance(value, str):
        refuse(f"{where}.{name}", "Expected string")
    return value


def kept(breakpoint: dict[str, Any]) -> dict[str, Any]:
    """`cache_control` without members that only Anthropic's own API knows, like Claude Code's `scope`."""
    return {name: breakpoint[name] for name in ("type", "ttl") if breakpoint.get(name) is not None}
