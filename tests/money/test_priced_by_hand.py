"""Answers as providers give them, priced by hand to the last digit, from their bytes to the ledger's cost.

Each line's arithmetic is spelled out: tokens times USD per million. The prices are those of the pages below, as
of November 2026; nothing here asks the price book what it thinks.

- https://platform.claude.com/docs/en/about-claude/pricing: input, writes of 5 minutes and of an hour, reads, output:
  Opus 5.5: 4, 5, 8, 0.20, 20; Sonnet 5.5: 2, 2.50, 4, 0.10, 10 (reads 0.20 until 7 October); Haiku 4.5: 1, 1.25, 2,
  0.10, 5; Opus 4.8: 5, 6.25, 10, 0.50, 25. Web search: 10 a thousand. Batches: half. `inference_geo: us`: a tenth
  more. Fast mode of Opus 5.5: 8, 10, 16, 0.40, 40.
- https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback: iterations, and what declined models
  cost.
- https://openai.com/api/pricing: GPT-5.5: input 5, reads 0.50, output 30; as priority 12.50, 1.25, 75; as flex 2.50,
  0.25, 15.
- A model that no list has: 30 and 150 (.env.example), reads like input.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal as D
from typing import Any

import pytest

from messages_api.answer.metering import JsonMeter
from messages_api.answer.settlement import bill
from usage.pricing import build

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
BOOK = build([])
M = D(1_000_000)
OPUS, SONNET, HAIKU = "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-4-5"
TEXT = [{"type": "text", "text": "Hello."}]
OPENAI = {"provider": "openai"}
REFUSED: dict[str, Any] = {"stop_reason": "refusal", "content": []}


def cost(model: str, usage: dict[str, Any], *, provider: str = "anthropic", hour: bool = False, **members: Any) -> D:
    """What settlement says that an answer in one piece costs."""
    answer = {"type": "message", "model": model, "content": TEXT, "stop_reason": "end_turn", "usage": usage} | members
    meter = JsonMeter()
    assert meter.read(json.dumps(answer).encode())
    columns = bill(
        meter.reading.iterations(hour),
        meter.reading,
        provider=provider,
        model=model,
        at=AT,
        asked=BOOK.price(provider, model, AT),
        prices=BOOK.price,
        cache_writes="1h" if hour else "5m",
    )
    found: D = columns["cost"]
    assert sum(columns["cost_split"] or [], D(0)) == found
    return found


def used(input_tokens: int = 0, output_tokens: int = 0, **more: Any) -> dict[str, Any]:
    return {"input_tokens": input_tokens, "output_tokens": output_tokens} | more


def writes(five: int, hour: int) -> dict[str, Any]:
    split = {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour}
    return {"cache_creation_input_tokens": five + hour, "cache_creation": split}


def step(kind: str, model: str, *counts: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "model": model} | used(*counts) | more


# What it is; the model; the usage; how it was asked and answered; the cost by hand.
TABLE: list[tuple[str, str, dict[str, Any], dict[str, Any], D]] = [
    ("input and output", OPUS, used(1_237, 411), {}, (1_237 * D(4) + 411 * D(20)) / M),
    ("input and output of a small model", HAIKU, used(9, 12), {}, (9 * D(1) + 12 * D(5)) / M),
    ("an older model", "claude-opus-4-8", used(2_003, 77), {}, (2_003 * D(5) + 77 * D(25)) / M),
    ("a dated name", "claude-haiku-4-5-20251001", used(333, 7), {}, (333 * D(1) + 7 * D(5)) / M),
    (
        "a read from a cache",
        SONNET,
        used(21, 503, cache_read_input_tokens=18_231),
        {},
        (21 * D(2) + 18_231 * D("0.10") + 503 * D(10)) / M,
    ),
    (
        "a write of five minutes",
        SONNET,
        used(3, 5, **writes(4_001, 0)),
        {},
        (3 * D(2) + 4_001 * D("2.5") + 5 * D(10)) / M,
    ),
    ("a write of an hour", SONNET, used(3, 5, **writes(0, 4_001)), {}, (3 * D(2) + 4_001 * D(4) + 5 * D(10)) / M),
    (
        "writes of both",
        OPUS,
        used(1, 1, **writes(1_009, 2_003)),
        {},
        (1 * D(4) + 1_009 * D(5) + 2_003 * D(8) + 1 * D(20)) / M,
    ),
    (
        "a write without a split, asked for an hour",
        OPUS,
        used(1, 1, cache_creation_input_tokens=3_337),
        {"hour": True},
        (1 * D(4) + 3_337 * D(8) + 1 * D(20)) / M,
    ),
    (
        "a write without a split, asked for five minutes",
        OPUS,
        used(1, 1, cache_creation_input_tokens=3_337),
        {},
        (1 * D(4) + 3_337 * D(5) + 1 * D(20)) / M,
    ),
    (
        "thinking, which is output",
        OPUS,
        used(50, 900, output_tokens_details={"thinking_tokens": 850}),
        {},
        (50 * D(4) + 900 * D(20)) / M,
    ),
    (
        "three web searches",
        SONNET,
        used(8_101, 402, server_tool_use={"web_search_requests": 3}),
        {},
        (8_101 * D(2) + 402 * D(10)) / M + 3 * D("0.01"),
    ),
    (
        "a compaction",
        OPUS,
        used(220, 8, iterations=[step("compaction", OPUS, 55_196, 125), step("message", OPUS, 220, 8)]),
        {},
        (55_196 * D(4) + 125 * D(20) + 220 * D(4) + 8 * D(20)) / M,
    ),
    (
        "an adviser of another model",
        HAIKU,
        used(410, 60, iterations=[step("message", HAIKU, 410, 60), step("advisor_message", OPUS, 1_300, 240)]),
        {},
        (410 * D(1) + 60 * D(5) + 1_300 * D(4) + 240 * D(20)) / M,
    ),
    (
        "a fallback after a model that has written",
        OPUS,
        used(700, 90, iterations=[step("message", OPUS, 700, 31), step("fallback_message", SONNET, 731, 90)]),
        {},
        (700 * D(4) + 31 * D(20) + 731 * D(2) + 90 * D(10)) / M,
    ),
    (
        "a fallback after a model that declined at once, which is free",
        OPUS,
        used(700, 90, iterations=[step("message", OPUS, 700, 1), step("fallback_message", SONNET, 700, 90)]),
        {
            "content": [
                {
                    "type": "fallback",
                    "from": {"model": OPUS},
                    "to": {"model": SONNET},
                    "trigger": {"type": "refusal", "category": "cyber"},
                },
                *TEXT,
            ]
        },
        (700 * D(2) + 90 * D(10)) / M,
    ),
    ("a refusal without content", OPUS, used(512, 1), REFUSED | {"stop_details": {"category": "cyber"}}, D(0)),
    (
        "a refusal without content of a category that is billed",
        OPUS,
        used(512, 1),
        REFUSED | {"stop_details": {"type": "refusal", "category": "bio"}},
        (512 * D(4) + 1 * D(20)) / M,
    ),
    ("a refusal after some content", OPUS, used(512, 40), {"stop_reason": "refusal"}, (512 * D(4) + 40 * D(20)) / M),
    ("fast mode", OPUS, used(1_003, 207, speed="fast"), {}, (1_003 * D(8) + 207 * D(40)) / M),
    (
        "inference in the US",
        OPUS,
        used(1_003, 207, inference_geo="us"),
        {},
        (1_003 * D(4) + 207 * D(20)) * D("1.1") / M,
    ),
    (
        "a batch",
        SONNET,
        used(10_001, 2_003, service_tier="batch", cache_read_input_tokens=777),
        {},
        (10_001 * D(2) + 777 * D("0.10") + 2_003 * D(10)) / 2 / M,
    ),
    (
        "a batch in the US",
        OPUS,
        used(11, 3, service_tier="batch", inference_geo="us"),
        {},
        (11 * D(4) + 3 * D(20)) / 2 * D("1.1") / M,
    ),
    ("the tier standard", HAIKU, used(7, 3, service_tier="standard"), {}, (7 * D(1) + 3 * D(5)) / M),
    (
        "the tier standard at OpenAI",
        "gpt-5.5",
        used(1_201, 340, cache_read_input_tokens=2_048, service_tier="standard"),
        OPENAI,
        (1_201 * D(5) + 2_048 * D("0.50") + 340 * D(30)) / M,
    ),
    (
        "the tier priority at OpenAI",
        "gpt-5.5",
        used(1_201, 340, cache_read_input_tokens=2_048, service_tier="priority", provider_service_tier="priority"),
        OPENAI,
        (1_201 * D("12.50") + 2_048 * D("1.25") + 340 * D(75)) / M,
    ),
    (
        "the tier flex at OpenAI",
        "gpt-5.5",
        used(1_201, 340, cache_read_input_tokens=2_048, provider_service_tier="flex"),
        OPENAI,
        (1_201 * D("2.50") + 2_048 * D("0.25") + 340 * D(15)) / M,
    ),
    ("an unknown model", "claude-zeta-9", used(100, 10), {}, (100 * D(30) + 10 * D(150)) / M),
    ("an answer that used nothing", OPUS, used(), {}, D(0)),
]


@pytest.mark.parametrize(
    ("model", "usage", "how", "expected"), [line[1:] for line in TABLE], ids=[line[0] for line in TABLE]
)
def test_an_answer_of_anthropic_costs_what_its_price_list_says(
    model: str, usage: dict[str, Any], how: dict[str, Any], expected: D
) -> None:
    assert cost(model, usage, **how) == expected


def test_everything_at_once_costs_the_sum() -> None:
    usage = used(
        1_234,
        567,
        cache_read_input_tokens=89_012,
        **writes(3_456, 789),
        server_tool_use={"web_search_requests": 3},
        inference_geo="us",
    )
    tokens = 1_234 * D(4) + 567 * D(20) + 89_012 * D("0.20") + 3_456 * D(5) + 789 * D(8)
    assert cost(OPUS, usage) == tokens * D("1.1") / M + 3 * D("0.01") == D("0.09343744")
