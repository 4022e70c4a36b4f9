"""Characters that a provider's stream cuts in two. No I/O.

A server that counts in UTF-16 may send the two halves of an emoji in different chunks, escaped (`"\\ud83d"`, then
`"\\ude00"`). Neither is a character by itself: https://github.com/elizaOS/eliza/issues/30904 (September 2026).
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

HALF = re.compile("[\ud800-\udfff]")
FIRST_HALF = re.compile("[\ud800-\udbff]\\Z")
# The members whose texts may go on in the next chunk.
CUT = frozenset(
    ("content", "text", "thinking", "reasoning", "reasoning_content", "summary", "arguments", "refusal", "transcript")
)


class Halves:
    """Joins the halves at the cuts of several texts.

    Attributes:
        held: the first half that a text ends with.
    """

    def __init__(self) -> None:
        self.held: dict[Hashable, str] = {}

    def joined(self, of: Hashable, text: str) -> str:
        """The next part of a text, in whole characters.

        Args:
            of: which text.
        """
        if not (text and (self.held or HALF.search(text))):
            return text
        text = self.held.pop(of, "") + text
        if FIRST_HALF.search(text):
            self.held[of] = text[-1]
            text = text[:-1]
        return whole(text)

    def rest(self, of: Hashable) -> str:
        """What stands for a first half at the end of a text, whose second one never came."""
        return whole(self.held.pop(of, ""))


def whole(text: str) -> str:
    """The text with its halves joined; a single one is replaced."""
    if not HALF.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def cleaned(value: Any) -> Any:
    """A JSON value with whole characters only, but for the texts in `CUT`."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, list):
        return [cleaned(one) for one in value]
    if isinstance(value, dict):
        return {
            name: inner if name in CUT and isinstance(inner, str | list) else cleaned(inner)
            for name, inner in value.items()
        }
    return value
