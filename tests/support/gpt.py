"""A caller whose calls go to an OpenAI-compatible provider, and what they cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from anthropic import Anthropic

from tests.support.openai_provider import GPT, issue_openai
from usage import pricing

ASKED: Any = {"model": GPT, "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def gpt_alice(served, upstream):
    """Alice, whose key leads to an OpenAI-compatible provider only."""
    return issue_openai(upstream)


def sdk(web, caller, **options):
    return Anthropic(base_url=web.url, api_key=caller.key, **({"max_retries": 0} | options))


def cost_of(entry):
    """36 tokens read, 64 from the cache, 7 written, at list prices."""
    price = pricing.build([]).price("openai", GPT, entry.admitted_at)
    assert 0 < price.cache_read < price.input
    return (36 * price.input + 64 * price.cache_read + 7 * price.output) / Decimal(1_000_000)


def check_counted(entry):
    """The row of a call that used what USAGE says."""
    counts = (entry.input_tokens, entry.cache_read_input_tokens, entry.output_tokens, entry.thinking_tokens)
    assert counts == (36, 64, 7, 3)
    assert (entry.status, entry.provider, entry.requested_model, entry.estimated) == ("completed", "openai", GPT, False)
    assert entry.cost == cost_of(entry)
    assert entry.price_flag == ""
