"""Allowances for tokens that a request doesn't show: a number of uses, and the tokens of each use.

A provider's own tools run in a loop: the model uses a tool, reads what it found together with all that came before, and
goes on. What tools find is unknown in advance, and so is the length of a file or page that a request only names.
Recorded calls took 7,000 to 12,000 tokens a web search (ten searches at most, if the tool sets no `max_uses`), 3,000 a
page, a few hundred a run of code. A summary of the conversation (`compaction`) is written besides the answer, which
alone `max_tokens` bounds: 125 to 3,500 tokens, or what the request's own instructions for it ask.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# For each kind: the most uses if the request doesn't limit them, and the tokens of each use.
DEFAULT = (
    "web_search=10x8000,web_fetch=5x15000,code_execution=5x1000,tool_search=3x1500,mcp=5x4000,advisor=3x2000,"
    "file=1x20000,thread=1x50000,compaction=1x8000"
)
KINDS = tuple(one.partition("=")[0] for one in DEFAULT.split(","))
ONE = re.compile(r"([a-z_]+)=([0-9]{1,3})x([0-9]{1,7})")


@dataclass(frozen=True, slots=True)
class Allowance:
    uses: int
    tokens: int


Allowances = Mapping[str, Allowance]


def read(written: str) -> Allowances:
    """Allowances in the notation of `DEFAULT`; a kind that isn't named keeps its default.

    Raises:
        ValueError: the text is malformed; with a message for the administrator.
    """
    found: dict[str, Allowance] = {}
    for one in (*DEFAULT.split(","), *filter(None, (part.strip() for part in written.split(",")))):
        match = ONE.fullmatch(one)
        if match is None or match[1] not in KINDS:
            raise ValueError(f"expected kind=USESxTOKENS, separated by commas; the kinds are {', '.join(KINDS)}")
        found[match[1]] = Allowance(int(match[2]), int(match[3]))
    return found
