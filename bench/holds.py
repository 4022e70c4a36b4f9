"""What a call holds of a budget. `python bench/holds.py` prints the table of docs/budgets.md; `python bench/holds.py
FILE …` prints the hold of your own request bodies.

It needs neither database nor network: it uses list prices, and ALLOWANCES from the environment.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Any

# The table uses the prices of this day, so that it doesn't change with the catalogue.
PRICES_OF = datetime(2026, 11, 25, tzinfo=UTC)

PROSE = "Alice asks Bob to read the report again, because two of its figures don't agree with the invoice. "
CODE = "    def total(self, rows: list[Row]) -> Decimal:\n        return sum((row.cost for row in rows), Decimal(0))\n"
CACHED: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}


@dataclass(frozen=True)
class Kind:
    """A kind of call.

    Attributes:
        writes: the usual number of tokens in the answer.
        cached: the usual share of the prompt that is read from a cache.
        searches: the usual number of web searches; each finds 8,000 tokens.
        calls: the number of calls in a batch; 0 for a single call.
    """

    name: str
    request: dict[str, Any]
    writes: int
    cached: Decimal = Decimal(0)
    searches: int = 0
    calls: int = 0

    @property
    def body(self) -> bytes:
        """The body of one request."""
        return json.dumps(self.request, ensure_ascii=False, separators=(",", ":")).encode()


def prose(size: int) -> str:
    return (PROSE * (size // len(PROSE) + 1))[:size]


def code(size: int) -> str:
    return (CODE * (size // len(CODE) + 1))[:size]


def agent(model: str, max_tokens: int, size: int) -> dict[str, Any]:
    """A coding agent's request of about `size` bytes: 25 kB of instructions, 30 tools of 2 kB, and a conversation."""
    schema = {"type": "object", "properties": {"path": {"type": "string", "description": prose(100)}}}
    tools = [{"name": f"tool_{n}", "description": prose(1_850), "input_schema": schema} for n in range(30)]
    rest = max(1_000, size - 87_000)
    turns: list[dict[str, Any]] = [
        {"role": ("user", "assistant")[n % 2], "content": (prose, code)[n % 2](rest // 9)} for n in range(8)
    ]
    turns.append({"role": "user", "content": [{"type": "text", "text": prose(rest // 9)} | CACHED]})
    system = [{"type": "text", "text": prose(25_000)} | CACHED]
    return {"model": model, "max_tokens": max_tokens, "system": system, "tools": tools, "messages": turns}


def ask(model: str, max_tokens: int, size: int, **members: Any) -> dict[str, Any]:
    """A question of `size` characters."""
    return {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": prose(size)}]} | members


def search(**members: Any) -> dict[str, Any]:
    return {"tools": [{"type": "web_search_20250305", "name": "web_search"} | members]}


OPUS, SONNET, HAIKU = "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-4-5"
MOSTLY = Decimal("0.95")
KINDS = [
    Kind("a question with curl or an SDK", ask(SONNET, 1024, 500), 300),
    Kind("a chat with a long history", ask(SONNET, 4096, 20_000), 500),
    Kind("a long document, summed up", ask(SONNET, 4096, 400_000), 1_000),
    Kind("a coding agent (Claude Code and the like), first call", agent(OPUS, 32_000, 90_000), 800),
    Kind("the same with max_tokens 64,000", agent(OPUS, 64_000, 90_000), 800),
    Kind("the same, late in a long session", agent(OPUS, 64_000, 500_000), 800, MOSTLY),
    Kind("the same with Sonnet", agent(SONNET, 64_000, 500_000), 800, MOSTLY),
    Kind("an agent with web search, max_uses 3", ask(SONNET, 4096, 2_000, **search(max_uses=3)), 800, searches=2),
    Kind("an agent with web search, no max_uses", ask(SONNET, 4096, 2_000, **search()), 800, searches=2),
    Kind("a batch of 1,000 short questions", ask(HAIKU, 200, 1_000), 50, calls=1000),
]


def prepare() -> None:
    """Set up Django with settings of a fictitious deployment, which importing the apps requires."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    os.environ["DJANGO_SETTINGS_MODULE"] = "gateway_project.settings"
    os.environ["DATABASE_URL"] = "postgresql://unused@127.0.0.1/unused"
    import django

    with tempfile.TemporaryDirectory() as folder:
        os.environ["VAR_DIR"] = folder
        django.setup()


class Weighed:
    """A request and its estimate, at the list prices of `at`. For a batch, it is one of its requests."""

    def __init__(self, body: bytes, at: datetime, *, batched: bool = False) -> None:
        from django.conf import settings

        from messages_api.request import estimates, schema
        from usage import pricing

        book = pricing.build(())
        self.request = schema.parse(body)
        extras = self.request.extras
        self.price, *others = (book.price("anthropic", name, at) for name in (self.request.model, *extras.models))
        self.estimate = estimates.estimate(self.request.contents, self.request.model, self.request.added, extras)
        self.factor = pricing.BATCH if batched else Decimal(1)
        allowances = settings.CONFIGURATION.allowances
        self.held = self.factor * self.estimate.ceiling_cost(
            self.request.max_tokens, self.price, *others, allowances=allowances, extras=extras
        )
        self.output = self.factor * self.price.output * self.request.max_tokens / 10**6

    def usual(self, kind: Kind) -> Decimal:
        """USD that the call costs with the likely number of prompt tokens and the usual values of its kind."""
        from usage.tokens import TokenCounts

        # Each step reads the prompt again, and what the searches have found so far.
        prompt = self.estimate.likely * (1 + kind.searches) + 8_000 * kind.searches * (kind.searches + 1) // 2
        read = round(prompt * kind.cached)
        written = prompt - read if self.estimate.writes else 0
        counts = TokenCounts(
            input_tokens=prompt - read - written,
            cache_read_input_tokens=read,
            cache_creation_5m_input_tokens=written,
            output_tokens=kind.writes,
            web_search_requests=kind.searches,
        )
        return self.factor * self.price.cost(counts)


def dollars(amount: Decimal) -> str:
    return f"${amount.quantize(Decimal('0.001'), ROUND_UP)}"


def table() -> str:
    """A Markdown table with a row per kind of call."""
    lines = ["| A call | Model | Body | `max_tokens` | Held | of it for output | Usual cost |"]
    lines.append("|---|---|---|---|---|---|---|")
    for kind in KINDS:
        one, calls = Weighed(kind.body, PRICES_OF, batched=bool(kind.calls)), kind.calls or 1
        cells = (
            kind.name,
            one.request.model.removeprefix("claude-"),
            f"{-(-len(kind.body) * calls // 1000):,} kB",
            f"{one.request.max_tokens:,}",
            dollars(one.held * calls),
            dollars(one.output * calls),
            dollars(one.usual(kind) * calls),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    prepare()
    if not sys.argv[1:]:
        print(table())
    for file in sys.argv[1:]:
        one = Weighed(Path(file).read_bytes(), datetime.now(UTC))
        print(f"{file}: {dollars(one.held)} held, {dollars(one.output)} of it for output")


if __name__ == "__main__":
    main()
