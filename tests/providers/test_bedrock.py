"""Claude on Amazon Bedrock: signed requests, and streams in Amazon's framing that come out as Anthropic's."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import random
from collections.abc import Callable
from decimal import Decimal

import anthropic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages_api.providers.bedrock_events import BedrockEvents
from messages_api.upstream.client import Headers, UpstreamError
from tests.support.bedrock_calls import ACCESS_KEY, ANSWERED, MODEL, PAIR, SECRET_KEY, SESSION
from tests.support.bedrock_calls import bedrock_alice as bedrock_alice
from tests.support.bedrock_provider import chunk_frame, exception_frame, frames, is_signed, streamed
from tests.support.clouds import issue_for, says_nothing_of, sent
from tests.support.fake_provider import End, Upstream, cut, whole
from tests.support.gateway import (
    CLIENT,
    Caller,
    Web,
    ask,
    credentials,
    event,
    events,
    free_calls,
    message,
    post,
    refused,
    row,
)


def test_a_call_is_signed_and_says_its_model_and_betas_where_bedrock_wants_them(
    web: Web, bedrock_alice: Caller, upstream: Upstream
) -> None:
    upstream.answer = whole(200, message(model=ANSWERED), ("x-amzn-requestid", "amazon-1"))
    given = credentials(bedrock_alice.key) | {"anthropic-beta": "context-1m-2025-08-07, effort-2025-11-24"}
    body = json.dumps(ask("Hé", model=MODEL, stream=False, anthropic_beta=["mine"])).encode()
    answer = CLIENT.post(web.url + "/v1/messages?beta=true", content=body, headers=given)
    assert (answer.status_code, answer.content) == (200, message(model=ANSWERED))
    assert answer.headers["request-id"] == "amazon-1"
    assert upstream.last.target == "/model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke"
    assert is_signed(upstream.last, "eu-central-1", ACCESS_KEY, SECRET_KEY)
    assert upstream.last.values("x-amz-security-token") == [SESSION]
    assert not [name for name, _ in upstream.last.headers if name.startswith((b"anthropic-", b"x-api-key"))]
    asked = ask("Hé")
    assert sent(upstream.last) == {
        "anthropic_version": "bedrock-2023-05-31",
        "anthropic_beta": ["context-1m-2025-08-07", "effort-2025-11-24", "mine"],
        "max_tokens": 64,
        "messages": asked["messages"],
    }
    entry = row()
    # 3.30 and 16.50 dollars a million, in a region.
    assert (entry.provider, entry.cost, entry.price_flag) == ("bedrock", Decimal("0.0001518"), "")
    assert (entry.requested_model, entry.model) == (MODEL, ANSWERED)
    says_nothing_of(web, SECRET_KEY, SESSION)


@pytest.mark.parametrize("client", ["lean", "aiohttp"])
def test_a_profile_by_its_arn_is_one_part_of_the_address(
    served: None, start_web: Callable[..., Web], upstream: Upstream, client: str
) -> None:
    web = start_web(upstream_client=client)
    alice = issue_for("bedrock", PAIR, upstream.url, region="eu-central-1")
    upstream.answer = whole(200, message(model=ANSWERED))
    arn = f"arn:aws:bedrock:eu-central-1:123456789012:inference-profile/global.{MODEL.removeprefix('eu.')}"
    assert post(web, alice.key, ask(model=arn)).status_code == 200
    assert upstream.last.target == (
        "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A123456789012%3Ainference-profile%2F"
        "global.anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke"
    )
    assert is_signed(upstream.last, "eu-central-1", ACCESS_KEY, SECRET_KEY)
    # A global profile has the list price.
    assert row().cost == Decimal("0.000138")


def test_an_api_key_goes_as_bearer(web: Web, served: None, upstream: Upstream) -> None:
    alice = issue_for("bedrock", "ABSK-bedrock-api-key-0123456789", upstream.url, region="us-east-1")
    upstream.answer = whole(200, message(model=ANSWERED))
    assert post(web, alice.key, ask(model=MODEL)).status_code == 200
    assert upstream.last.values("authorization") == ["Bearer ABSK-bedrock-api-key-0123456789"]
    assert upstream.last.values("x-amz-date") == []
    says_nothing_of(web, "ABSK-bedrock-api-key-0123456789")


def test_tokens_are_counted_for_the_model_without_its_profile(
    web: Web, bedrock_alice: Caller, upstream: Upstream
) -> None:
    upstream.answer = whole(200, b'{"inputTokens":9}')
    asked = {"model": MODEL, "messages": ask()["messages"]}
    assert post(web, bedrock_alice.key, asked, "/v1/messages/count_tokens").json() == {"input_tokens": 9}
    assert upstream.last.target == "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens"
    assert is_signed(upstream.last, "eu-central-1", ACCESS_KEY, SECRET_KEY)
    assert json.loads(base64.b64decode(sent(upstream.last)["input"]["invokeModel"]["body"])) == {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 1,
        "messages": asked["messages"],
    }
    assert free_calls(bedrock_alice.virtual_key, 1) == {("count_tokens", "completed"): 1}


@pytest.mark.parametrize(
    ("status", "theirs", "expected", "kind", "says"),
    [
        (429, "Too many requests.", 429, "rate_limit_error", "Too many requests."),
        (400, "Malformed input.", 400, "invalid_request_error", "Malformed input."),
        (400, "The provided model identifier is invalid.", 404, "not_found_error", f"model: {MODEL}"),
        (400, "Input is too long for requested model.", 400, "invalid_request_error", "prompt is too long: Input"),
        (403, "You don't have access to the model with the specified model ID.", 404, "not_found_error", "model: "),
        (408, "Model has timed out.", 408, "timeout_error", "Model has timed out."),
        (424, "The model failed.", 500, "api_error", "The model failed."),
        (503, "Unavailable.", 503, "api_error", "Unavailable."),
    ],
)
def test_amazons_errors_have_anthropics_shape(
    web: Web,
    bedrock_alice: Caller,
    upstream: Upstream,
    status: int,
    theirs: str,
    expected: int,
    kind: str,
    says: str,
) -> None:
    upstream.answer = whole(status, json.dumps({"message": theirs}).encode(), ("x-amzn-requestid", "amazon-1"))
    answer = post(web, bedrock_alice.key, ask(model=MODEL))
    assert (answer.status_code, answer.headers["request-id"]) == (expected, "amazon-1")
    assert answer.json()["error"]["type"] == kind
    assert answer.json()["error"]["message"].startswith(says)
    assert row().cost == 0


def test_a_signature_that_is_refused_is_our_trouble(web: Web, bedrock_alice: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(403, b'{"message":"The security token included in the request is invalid."}')
    assert "administrator" in refused(post(web, bedrock_alice.key, ask(model=MODEL)), 503, "api_error")


# Streams


def stop(**metrics: int) -> bytes:
    """The last event, with what Amazon adds to it."""
    return event("message_stop", **{"amazon-bedrock-invocationMetrics": metrics})


STREAM = [*events("Hé", "l", "lo", "\u2028"), stop(inputTokenCount=11, outputTokenCount=7)]
del STREAM[-2]


def test_the_sdk_reads_a_stream_cut_anywhere(web: Web, bedrock_alice: Caller, upstream: Upstream) -> None:
    upstream.answer = streamed(cut(frames(STREAM), random.Random(11)))
    with (
        anthropic.Anthropic(base_url=web.url, api_key=bedrock_alice.key, max_retries=0) as sdk,
        sdk.messages.stream(model=MODEL, max_tokens=64, messages=ask()["messages"]) as helper,
    ):
        assert "".join(helper.text_stream) == "Héllo\u2028"
        assert helper.get_final_message().usage.output_tokens == 7
    assert upstream.last.target.endswith("/invoke-with-response-stream")
    assert "stream" not in sent(upstream.last)
    entry = row()
    assert (entry.input_tokens, entry.output_tokens, entry.status) == (11, 7, "completed")
    assert entry.provider_request_id == "amazon-1"


def test_its_events_carry_anthropics_bytes(web: Web, bedrock_alice: Caller, upstream: Upstream) -> None:
    upstream.answer = streamed([frames(STREAM)])
    answer = post(web, bedrock_alice.key, ask(model=MODEL, stream=True))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.content == b"".join(STREAM)
    # Its model is the test's own, at 4.40 and 22 dollars a million.
    assert row().cost == Decimal("0.0002024")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("throttlingException", "rate_limit_error"),
        ("validationException", "invalid_request_error"),
        ("modelTimeoutException", "timeout_error"),
        ("modelStreamErrorException", "api_error"),
        ("internalServerException", "api_error"),
        ("serviceUnavailableException", "api_error"),
    ],
)
def test_an_exception_in_mid_stream_is_an_error_event(
    web: Web, bedrock_alice: Caller, upstream: Upstream, kind: str, expected: str
) -> None:
    upstream.answer = streamed([frames(STREAM[:4]) + exception_frame(kind, "So it is.")])
    answer = post(web, bedrock_alice.key, ask(model=MODEL, stream=True))
    told = b'event: error\ndata: {"type": "error", "error": {"type": "%b", "message": "So it is."}}\n\n'
    assert answer.content == b"".join(STREAM[:4]) + told % expected.encode()
    entry = row()
    assert (entry.status, entry.error_type, entry.estimated) == ("failed", expected, True)
    assert entry.cost > 0


@pytest.mark.parametrize("harm", ["checksum", "payload", "end"])
def test_a_stream_that_cannot_be_read_is_broken_off(
    web: Web, bedrock_alice: Caller, upstream: Upstream, harm: str
) -> None:
    last = chunk_frame(b'{"type":"ping"}') if harm != "payload" else chunk_frame(b"no JSON")
    if harm == "checksum":
        last = last[:-1] + bytes([last[-1] ^ 1])
    if harm == "end":
        last = last[:-5]
    parts = [frames(STREAM[:4]), last]
    # The bytes after an unreadable part are not awaited.
    upstream.answer = [*streamed(parts)[:-1], *([] if harm == "end" else [20.0]), End.CLOSE]
    answer = post(web, bedrock_alice.key, ask(model=MODEL, stream=True))
    assert answer.content.startswith(b"".join(STREAM[:4]))
    assert b"event: error\n" in answer.content
    assert b"event: ping\n" not in answer.content
    assert row().status == "failed"


class Cut:
    """An answer in these parts."""

    status = 200

    def __init__(self, parts: list[bytes]) -> None:
        self.headers: Headers = []
        self.parts = parts

    async def read(self) -> bytes:
        return self.parts.pop(0) if self.parts else b""

    def close(self) -> None:
        """Nothing is open."""


async def read(parts: list[bytes]) -> bytes:
    stream, out = BedrockEvents(Cut(parts)), b""
    while part := await stream.read():
        out += part
    return out


texts = st.lists(st.text(max_size=20), max_size=6)


@settings(deadline=None)
@given(texts, st.data())
def test_the_events_are_the_same_at_any_cuts(said: list[str], data: st.DataObject) -> None:
    sent = events(*said)
    body = frames(sent)
    places = data.draw(st.lists(st.integers(1, len(body) - 1), unique=True, max_size=30))
    parts = [body[start:end] for start, end in itertools.pairwise([0, *sorted(places), len(body)])]
    assert asyncio.run(read(parts)) == b"".join(sent)


@settings(deadline=None)
@given(st.data())
def test_a_bit_that_flips_is_never_taken_for_an_event(data: st.DataObject) -> None:
    whole_body = frames(STREAM)
    at = data.draw(st.integers(0, len(whole_body) - 1))
    body = bytearray(whole_body)
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    got, stream = b"", BedrockEvents(Cut([bytes(body)]))
    with contextlib.suppress(UpstreamError):
        while part := asyncio.run(stream.read()):
            got += part
    assert got != b"".join(STREAM)
    assert b"".join(STREAM).startswith(got)
