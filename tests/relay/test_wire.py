"""What clients rely on, point by point; `pytest -m wire -rA` shows the tests of each, here and in the other files.

1. One key as x-api-key, as Bearer, as both. 2. The path with and without `?beta=true`, with a prefix. 3. Both
versions of the API reach the provider unchanged. 4. So do headers `anthropic-…` and unknown members of the
body. 5. The body's bytes are those that were received. 6. Recorded streams arrive byte for byte, however they are
cut. 7. The first byte arrives before the provider is done. 8. A silent provider is bridged by pings. 9. One that dies
leaves an error event. 10. A client that is gone cancels the call within a second, and what was used is counted. 11.
Recorded errors arrive as they are, but for those about our own key. 12. The gateway's errors are the SDK's typed
ones. 13. The SDK asks once where a budget is spent. 14. `retry-after` on a success means nothing. 15. Recorded calls
cost what they cost by hand. 16. The results of batches are read at the gateway alone. 17. Counting tokens is free.
18. Models are listed in time, without a redirect. 19. `max_tokens` may be 0. 20. Compressed answers are understood.
21. A body may have 32 MB. 22. The blocks of `system` stay in order.
"""

from __future__ import annotations

import json
import re
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic

from gateway_project.configuration import Configuration
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import CLIENT, MODEL, ask, credentials, events, free_calls, message, row, rows
from tests.support.recordings import needs_recordings, recordings

ASKED: Any = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def sdk(web, alice, monkeypatch):
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with Anthropic(base_url=web.url, api_key=alice.key) as client:
        yield client


def test_every_point_has_a_test():
    marked = {
        int(number)
        for file in Path(__file__).parent.parent.rglob("test_*.py")
        for number in re.findall(r"^@pytest\.mark\.wire\((\d+)\)$", file.read_text(), re.MULTILINE)
    }
    assert marked >= set(range(1, 23))


@pytest.mark.wire(1)
def test_the_same_key_in_both_headers_is_one_credential(web, alice, upstream):
    upstream.answer = whole(200, message())
    both = {"x-api-key": alice.key, "authorization": f"Bearer {alice.key}"}
    assert CLIENT.post(web.url + "/v1/messages", json=ask(), headers=both).status_code == 200
    assert alice.key not in str(upstream.last.headers)


@pytest.mark.wire(3)
@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21", "2099-01-01"])
def test_the_version_that_the_sdk_sends_reaches_the_provider(sdk, upstream, version):
    upstream.answer = whole(200, message())
    sdk.messages.create(**ASKED, extra_headers={"anthropic-version": version}, extra_body={"temperature": 0.5})
    assert upstream.last.values("anthropic-version") == [version]
    assert json.loads(upstream.last.body)["temperature"] == 0.5


@pytest.mark.wire(4)
def test_extra_members_and_headers_of_the_sdk_reach_the_provider(sdk, upstream):
    upstream.answer = whole(200, message())
    sdk.messages.create(**ASKED, extra_headers={"anthropic-foo": "bar"}, extra_body={"novelty": {"depth": [1, None]}})
    assert upstream.last.values("anthropic-foo") == ["bar"]
    assert json.loads(upstream.last.body)["novelty"] == {"depth": [1, None]}


@pytest.mark.wire(8)
def test_pings_come_every_fifteen_seconds_at_most():
    assert Configuration.model_fields["ping_seconds"].default <= 15


@pytest.mark.wire(10)
def test_an_sdk_that_leaves_its_stream_cancels_the_call(sdk, upstream):
    upstream.answer = [*pieces(200, events("Hi", "there")[:4])[:-1], 30.0]
    with sdk.messages.stream(**ASKED) as stream:
        next(iter(stream.text_stream))
    left = time.monotonic()
    assert upstream.last.gone.wait(20)
    assert upstream.last.gone_at - left < 20
    entry = row()
    assert (entry.status, entry.estimated) == ("client_disconnected", True)
    assert entry.input_tokens == 11


@pytest.mark.wire(14)
def test_the_sdk_does_not_wait_for_a_retry_after_on_a_success(sdk, upstream):
    upstream.answer = whole(200, message(), ("retry-after", "59"))
    began = time.monotonic()
    assert sdk.messages.create(**ASKED).content[0].text == "Hi"
    assert time.monotonic() - began < 40
    assert len(upstream.seen) == 1


# USD by hand, from the list of prices (millionths: tokens times the price per million).
BY_HAND = {
    # claude-sonnet-5 reads 1128 and 1262 tokens at 2 and writes 110 and 11 at 10; its advisor, claude-opus-4-8, reads
    # 2518 at 5 and writes 22 at 25
    "pydantic-ai/0127": Decimal(2390 * 2 + 121 * 10 + 2518 * 5 + 22 * 25) / 1_000_000,
    # claude-sonnet-4-5 reads 404,500 tokens at 3, in eleven steps that are each far below its tier of 200,000, writes
    # 943 at 15, and searches ten times
    "pydantic-ai/0247": Decimal(404_500 * 3 + 943 * 15) / 1_000_000 + Decimal("0.10"),
}


@pytest.mark.wire(15)
@needs_recordings
@pytest.mark.parametrize("name", BY_HAND)
def test_a_recorded_call_costs_what_it_costs_by_hand(web, alice, upstream, name):
    recording = next(one for one in recordings() if one.name == name)
    headers = [(each, value) for each, value in recording.headers.items() if each == "content-type"]
    upstream.answer = whole(200, recording.body, *headers)
    answer = CLIENT.post(web.url + "/v1/messages", content=recording.request_body, headers=credentials(alice.key))
    assert answer.content == recording.body
    assert row().cost == BY_HAND[name]


@pytest.mark.wire(17)
def test_counting_tokens_costs_nothing(sdk, alice, upstream):
    upstream.answer = whole(200, b'{"input_tokens": 14}')
    assert sdk.messages.count_tokens(model=MODEL, messages=ASKED["messages"]).input_tokens == 14
    assert free_calls(alice.virtual_key, 1) == {("count_tokens", "completed"): 1}
    rows(0)


@pytest.mark.wire(19)
def test_the_sdk_may_fill_the_cache_with_no_tokens_to_write(sdk, upstream):
    upstream.answer = whole(200, message())
    sdk.messages.create(**ASKED | {"max_tokens": 0})
    assert json.loads(upstream.last.body)["max_tokens"] == 0


@pytest.mark.wire(21)
def test_a_body_of_thirty_two_megabytes_is_relayed_and_one_byte_more_is_not(web, alice, upstream):
    upstream.answer = whole(200, message())
    body = json.dumps(ask("")).encode()
    body = body.replace(b'""', b'"' + b"x" * ((32 << 20) - len(body)) + b'"')
    for more, status in ((b"", 200), (b" ", 413)):
        answer = CLIENT.post(web.url + "/v1/messages", content=body + more, headers=credentials(alice.key))
        assert answer.status_code == status
    assert upstream.last.body == body
    rows(1)


@pytest.mark.wire(22)
def test_the_blocks_of_system_stay_in_order(sdk, upstream):
    upstream.answer = whole(200, message())
    blocks: Any = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.181"},
        {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Be brief."},
    ]
    sdk.messages.create(**ASKED, system=blocks)
    assert json.loads(upstream.last.body)["system"] == blocks
