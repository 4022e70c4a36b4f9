"""Counts the output of an answer while it passes. If the last report of usage is missing, the estimate is based on
this.

Text, thinking and the input of tools are counted by bytes and by deltas. Tools that run in the provider's loop are
counted by their blocks, with the length of their results.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from messages_api.json_text.lenient import mapping

# Bytes per token of tools' results. They are mostly base64, which had 3.3 to 3.7 bytes per token in recordings.
BYTES_PER_TOKEN = 3
# Output without a report: this many tokens for this many bytes. The rate is high for English (about 4 bytes per token,
# 3 of newer models), and covers CJK (3 bytes per sign) and dense text (2.4 in a recording).
OUTPUT_BYTES, OUTPUT_TOKENS = 5, 2
# Output tokens of a block that uses a tool, besides its input: 10 to 50 in recordings.
FOR_A_USE = 50
# The most uses that are stored one by one; clients don't wait for more.
MOST_USES = 1000

# The kinds in process/allowances.py, by the names of tools.
TOOLS = {"web_search": "web_search", "web_fetch": "web_fetch", "advisor": "advisor"}
OTHER_TOOLS = {"code_execution": "code_execution", "tool_search": "tool_search"}
# The kind of an unknown tool.
UNKNOWN = "mcp"
# These are no tools, but also read the prompt again: a summary, and a model that replaces one that declined.
COMPACTION, FALLBACK = "compaction", "fallback"

# The members of a block or delta that are output; a citation is not.
CONTENT = ("text", "thinking", "partial_json", "content")
# The members that carry hidden thinking.
SEALED = ("signature", "data")
RESULT = re.compile(rb'"type"\s*:\s*"\w+_tool_result"')


@dataclass(slots=True)
class Use:
    """A step for which the provider read the prompt again.

    Attributes:
        kind: as in process/allowances.py, or `COMPACTION` or `FALLBACK`; `model`: the model that takes over.
        output: tokens that were written before this step.
        size: bytes of its result.
    """

    kind: str
    output: int = 0
    size: int = 0
    model: str = ""


@dataclass(slots=True)
class Seen:
    """The output of an answer so far: its bytes, its deltas, and uses of tools."""

    size: int = 0
    deltas: int = 0
    tools: int = 0
    uses: list[Use] = field(default_factory=list)
    # How many of these uses a report covers.
    reported: int = 0
    # The current block is thinking of which only the signature was shown up to now.
    hidden: bool = False

    @property
    def output_tokens(self) -> int:
        """A high estimate of the output tokens. A delta counts as at least one."""
        return max(self.deltas, -(-self.size * OUTPUT_TOKENS // OUTPUT_BYTES)) + FOR_A_USE * self.tools

    def note_delta(self, delta: dict[str, Any]) -> int:
        """Count a delta. Returns the number of bytes that it writes."""
        texts = (delta.get(name) for name in CONTENT)
        written = sum(len(text.encode("utf-8", "replace")) for text in texts if isinstance(text, str))
        self.note_text(written)
        for name in SEALED if self.hidden else ():
            self.size += len(sealed) if isinstance(sealed := delta.get(name), str) else 0
        return written

    def note_text(self, written: int) -> None:
        """Count a delta that writes this many bytes."""
        self.deltas += 1
        self.size += written
        if written:
            self.hidden = False

    def note_block(self, block: dict[str, Any], size: int | None = None) -> None:
        """Count a block that begins, or a whole one.

        Args:
            size: its bytes, if they are known.
        """
        kind = block.get("type")
        self.hidden = kind in ("thinking", "redacted_thinking")
        if not isinstance(kind, str):
            return
        if kind.endswith("_tool_result"):
            self.note_result(size_of(block) if size is None else size)
        elif kind.endswith("tool_use"):
            self.tools += 1
            self.size += size_of(block["input"]) if block.get("input") else 0
            if kind != "tool_use":
                self.note_use(kind_of(block) if kind == "server_tool_use" else "mcp")
        elif kind == FALLBACK:
            model = mapping(block.get("to")).get("model")
            self.note_use(FALLBACK, model if isinstance(model, str) else "")
        else:
            if kind == COMPACTION:
                self.note_use(COMPACTION)
            self.note_delta(block)

    def note_use(self, kind: str, model: str = "") -> None:
        if len(self.uses) < MOST_USES:
            self.uses.append(Use(kind, self.output_tokens, model=model))

    def note_result(self, size: int) -> None:
        """Count the result of the last use."""
        if self.uses:
            self.uses[-1].size += size

    @property
    def unreported(self) -> list[Use]:
        """The uses that no report covers."""
        return self.uses[self.reported :]


def size_of(value: object) -> int:
    """The bytes of a value as JSON; 0 if it can't be encoded."""
    try:
        return len(msgspec.json.encode(value))
    except (ValueError, RecursionError):  # half a character, which the reader of answers accepts
        return 0


def kind_of(block: dict[str, Any]) -> str:
    """The kind of a tool that the provider runs."""
    name = str(block.get("name"))
    return TOOLS.get(name) or next((kind for part, kind in OTHER_TOOLS.items() if part in name), UNKNOWN)
