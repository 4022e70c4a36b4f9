"""What a request may set in motion that can't be seen in it, as so many uses of so many tokens each.

A provider's own tools run in a loop: it uses them, reads what they found together with all that came before, and goes
on. What they find, and what a file or a page is that the request only names, nobody knows beforehand: these are
allowances. Recorded calls came to 7,000 to 12,000 tokens a web search (ten at the most, where the tool says no
`max_uses`), 3,000 a page, a few hundred a run of code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# Of each kind: how often at most where the request doesn't say, and the tokens of each time.
DEFAULT = (
    "web_search=10x8000,web_fetch=5x15000,code_execution=5x1000,tool_search=3x1500,mcp=5x4000,advisor=3x2000,"
    "file=1x20000,thread=1x50000"
)
KINDS = tuple(one.partition("=")[0] for one in DEFAULT.split(","))
ONE = re.compile(r"([a-z_]+)=([0-9]{1,3})x([0-9]{1,7})")


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many uses, of so many tokens each."""

    uses: int
    tokens: int


Allowances = Mapping[str, Allowance]


def read(written: str) -> Allowances:
    """The allowances as `DEFAULT` writes them; what isn't named stays as it is there.

    Raises:
        ValueError: with a sentence for whoever wrote it.
    """
    found: dict[str, Allowance] = {}
    for one in (*DEFAULT.split(","), *filter(None, (part.strip() for part in written.split(",")))):
        match = ONE.fullmatch(one)
        if match is None or match[1] not in KINDS:
            raise ValueError(f"expected kind=USESxTOKENS, separated by commas; the kinds are {', '.join(KINDS)}")
        found[match[1]] = Allowance(int(match[2]), int(match[3]))
    return found
