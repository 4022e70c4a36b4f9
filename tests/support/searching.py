"""Streams in which a model searches, and the provider's bill for them."""

from __future__ import annotations

from decimal import Decimal

from tests.support.gateway import event, events

SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 10}
# What a page of results is, and the whole prompt of the first step, tokens.
RESULT, PROMPT = 8000, 3000
INPUT, OUTPUT, FEE = Decimal("0.000004"), Decimal("0.000020"), Decimal("0.01")
FOUND = {"type": "web_search_result", "title": "T", "url": "https://example.com", "encrypted_content": "x" * 24_000}


def block(index, content, *deltas):
    return [
        event("content_block_start", index=index, content_block=content),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def search(index):
    """A search and what it found, in events."""
    use = {"type": "server_tool_use", "id": f"srvtoolu_{index}", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": use["id"], "content": [FOUND]}
    asked = {"type": "input_json_delta", "partial_json": '{"query": "how much"}'}
    return [*block(index, use, asked), *block(index + 1, found)]


def started(prompt=PROMPT):
    return events("", input_tokens=prompt)[:1]


def searching(uses, words=40):
    """A stream that searches so often and then writes, up to the report of what it used; and the provider's bill at
    each of its events."""
    parts, bill, read = started(), [PROMPT * INPUT], PROMPT
    for use in range(uses):
        parts += search(2 * use)
        # The query is written, the search costs its fee, and what it found is read with all that came before.
        queried = bill[-1] + 20 * OUTPUT
        read += RESULT + 20
        bill += [bill[-1], queried, queried + FEE, *2 * [queried + FEE + read * INPUT]]
    text = block(2 * uses, {"type": "text", "text": ""}, *({"type": "text_delta", "text": "ab"} for _ in range(words)))
    bill += [bill[-1] + min(at, words) * OUTPUT for at in range(len(text))]
    return [*parts, *text], bill


END = {"stop_reason": "end_turn", "stop_sequence": None}
