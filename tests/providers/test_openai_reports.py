"""Usage that OpenAI-compatible providers report in other places, in parts, or as zeros."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from messages_api.providers.openai import completion
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import CLIENT, ask, credentials, message, post, row
from tests.support.gpt import gpt_alice as gpt_alice
from tests.support.openai_events import last, translated
from tests.support.openai_provider import DONE, ask_gpt, chunk
from tests.support.openai_provider import completion as answer

REPORT = {"prompt_tokens": 1200, "completion_tokens": 50, "total_tokens": 1250}
ZEROS = dict.fromkeys(REPORT, 0)
COUNTED = {
    "input_tokens": 1200,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 50,
}


def in_choice(usage: dict[str, Any]) -> bytes:
    """A last chunk with its usage in the choice, as Kimi sends it."""
    choice = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage}
    return b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"


@pytest.mark.parametrize(
    "ending",
    [
        [chunk({}, "stop", usage=REPORT), chunk(usage=ZEROS), DONE],
        [chunk({}, "stop", usage=REPORT), chunk(usage=None), DONE],
        [
            chunk({}, "stop", usage=REPORT | {"completion_tokens": 0, "total_tokens": 1200}),
            chunk(usage=ZEROS | {"completion_tokens": 50}),
        ],
        [chunk({}, "stop", usage=ZEROS), chunk(usage=REPORT), DONE],
        [in_choice(REPORT), DONE],
        [in_choice(REPORT), chunk(usage=ZEROS), DONE],
    ],
    ids=[
        "zeros at the end",
        "null at the end",
        "in parts",
        "zeros first",
        "in the choice",
        "in the choice, then zeros",
    ],
)
def test_a_later_report_takes_no_tokens_back(ending: list[bytes]) -> None:
    assert last(translated([chunk({"content": "Hi"}), *ending]))["usage"] == COUNTED


@pytest.mark.parametrize(
    ("report", "counted"),
    [
        (
            {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 170, "cache_read_input_tokens": 50},
            (100, 50),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 1030, "cached_tokens": 1000}, (10, 1000)),
        # Without a total, nothing shows that it isn't a wrong count.
        ({"prompt_tokens": 10, "completion_tokens": 20, "cached_tokens": 1000}, (0, 10)),
        ({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "cached_tokens": 50}, (50, 50)),
        ({"prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 50}, (50, 50)),
        ({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, "cached_tokens": 50}, (0, 10)),
    ],
)
def test_cached_tokens_may_stand_beside_the_prompt(report: dict[str, int], counted: tuple[int, int]) -> None:
    told = {"choices": [], "usage": report | {"completion_tokens": 20}}
    used = completion.usage(completion.read(json.dumps(told).encode()))
    assert (used["input_tokens"], used["cache_read_input_tokens"]) == counted
    assert used["output_tokens"] == 20
    assert "output_tokens_details" not in used


@pytest.mark.parametrize(
    "details",
    [
        {"cache_write_tokens": 300},
        {"cache_creation_tokens": 300},
        {"cache_creation_input_tokens": 300},
        {"cached_creation_tokens": 300},
        {"cached_write_tokens": 300},
        {"cache_write_tokens": None, "cache_creation_tokens": 300},
        {"cache_write_tokens": 0, "cache_creation_tokens": 300},
    ],
)
def test_cache_writes_have_many_names(details: dict[str, int]) -> None:
    told = {"choices": [], "usage": REPORT | {"prompt_tokens_details": details | {"cached_tokens": 200}}}
    used = completion.usage(completion.read(json.dumps(told).encode()))
    assert (used["input_tokens"], used["cache_read_input_tokens"], used["cache_creation_input_tokens"]) == (
        700,
        200,
        300,
    )


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_counts_no_tokens_is_estimated(
    web_once: Any, upstream: Any, gpt_alice: Any, stream: bool
) -> None:
    parts = [chunk({"content": "Hello you"}), chunk({}, "stop"), chunk(usage=ZEROS), DONE]
    upstream.answer = pieces(200, parts) if stream else whole(200, answer("Hello you", usage=ZEROS))
    CLIENT.post(web_once.url + "/v1/messages", json=ask_gpt(stream=stream), headers=credentials(gpt_alice.key))
    entry = row()
    assert (entry.status, entry.stop_reason, entry.estimated) == ("completed", "end_turn", True)
    assert entry.input_tokens > 0
    assert entry.output_tokens > 0
    assert entry.cost > 0


def test_a_refusal_may_have_no_counts(web_once: Any, upstream: Any, alice: Any) -> None:
    refused = {"content": [], "stop_reason": "refusal", "usage": {"input_tokens": 40, "output_tokens": 0}}
    upstream.answer = whole(200, json.dumps(json.loads(message()) | refused).encode())
    post(web_once, alice.key, ask())
    assert (row().cost, row().estimated, row().price_flag) == (Decimal(0), False, "refusal_not_billed")


@pytest.mark.parametrize("counted", [{"input_tokens": 40, "output_tokens": 0}, {"input_tokens": 0, "output_tokens": 7}])
def test_a_report_stands_if_it_counts_anything(
    web_once: Any, upstream: Any, alice: Any, counted: dict[str, int]
) -> None:
    upstream.answer = whole(200, json.dumps(json.loads(message()) | {"usage": counted}).encode())
    post(web_once, alice.key, ask())
    entry = row()
    assert {name: getattr(entry, name) for name in counted} == counted
    assert not entry.estimated


def test_a_report_without_output_stands_where_nothing_was_written(web_once: Any, upstream: Any, alice: Any) -> None:
    warmed = {"content": [], "stop_reason": "max_tokens", "usage": {"input_tokens": 40, "output_tokens": 0}}
    upstream.answer = whole(200, json.dumps(json.loads(message()) | warmed).encode())
    post(web_once, alice.key, ask(max_tokens=0))
    assert (row().input_tokens, row().output_tokens, row().estimated) == (40, 0, False)
