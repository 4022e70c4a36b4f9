"""Ids of tool calls, between the providers' forms and Anthropic's. Pure.

Anthropic accepts letters, digits, `_` and `-` only, and others write `functions.Bash:0` (Kimi), so a conversation that
goes on with Claude would be refused: https://github.com/maximhq/bifrost/issues/5097 (July 2026). Such an id reaches the
client encoded, and its provider as it was: Kimi expects its own form back
(https://huggingface.co/moonshotai/Kimi-K2-Instruct/blob/main/docs/tool_call_guidance.md).
"""

from __future__ import annotations

import binascii
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Any

from messages_api.providers.openai.dialects import Dialect

ANTHROPICS = re.compile(r"[a-zA-Z0-9_-]+")
# The beginning of an encoded id.
ENCODED = "toolu_bf_"


def for_client(given: Any, taken: set[str]) -> str:
    """A unique id for a tool call in Anthropic's form: some providers give none, or the same one to several calls.

    Args:
        taken: the ids of the answer's other calls; this one is added.
    """
    unique = encoded(given) if isinstance(given, str) and given else ""
    if not unique or unique in taken:
        unique = "toolu_" + secrets.token_hex(12)
    taken.add(unique)
    return unique


def for_provider(name: str, spoken: Dialect) -> str:
    """A tool call's id in the provider's form. It is the same for the call and its result."""
    own = decoded(name)
    if spoken.ids is None or spoken.ids.fullmatch(own):
        return own
    return blake2b(name.encode("utf-8", "replace"), digest_size=5).hexdigest()[:9]


def encoded(given: str) -> str:
    """A provider's id in Anthropic's form."""
    if ANTHROPICS.fullmatch(given):
        return given
    return ENCODED + urlsafe_b64encode(given.encode("utf-8", "replace")).decode().rstrip("=")


def decoded(name: str) -> str:
    """The id that was encoded, or the same one."""
    if not name.startswith(ENCODED):
        return name
    written = name.removeprefix(ENCODED)
    try:
        own = urlsafe_b64decode(written + "=" * (-len(written) % 4)).decode()
    except (binascii.Error, ValueError):
        return name
    return own if own and encoded(own) == name else name
