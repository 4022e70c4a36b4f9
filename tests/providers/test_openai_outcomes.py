"""Calls to an OpenAI-compatible provider that don't end well: errors, nonsense, hang-ups, over real sockets."""

from __future__ import annotations

import json

import anthropic
import pytest

from keys.models import ProviderKey
from tests.support.fake_provider import End, broken, pieces, whole
from tests.support.gateway import CLIENT, credentials, post, refused, row
from tests.support.gpt import ASKED, check_counted, sdk
from tests.support.gpt import gpt_alice as gpt_alice
from tests.support.openai_provider import GPT, OPENAI_SECRET, ask_gpt, chunk, chunks, completion


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, {"error": {"message": "Bad 'x'.", "type": "invalid_request_error"}}, "invalid_request_error", "Bad 'x'."),
        (
            400,
            {"error": {"message": "maximum is 8192", "code": "context_length_exceeded"}},
            "invalid_request_error",
            "prompt is too long: maximum is 8192",
        ),
        (
            400,
            {
                "error": {
                    "message": "This model's maximum context length is 65536 tokens. However, you requested 70000."
                }
            },
            "invalid_request_error",
            "prompt is too long: This model's maximum",
        ),
        (
            400,
            [
                {
                    "error": {
                        "code": 400,
                        "message": "The input token count (9) exceeds the maximum number of tokens (8).",
                    }
                }
            ],
            "invalid_request_error",
            "prompt is too long: The input",
        ),
        (404, {"error": {"message": "No such", "code": "model_not_found"}}, "not_found_error", f"model: {GPT}"),
        (413, {"error": "too large"}, "request_too_large", "too large"),
        (422, {"detail": [{"loc": ["body", "x"], "msg": "extra"}]}, "invalid_request_error", "extra"),
        (429, {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}, "rate_limit_error", "Slow down."),
        (429, {"object": "error", "message": "Requests rate limit exceeded"}, "rate_limit_error", "Requests rate"),
        (500, [{"error": {"code": 500, "message": "Internal"}}], "api_error", "Internal"),
        (502, "<html>Bad Gateway</html>", "api_error", "The provider answered with HTTP 502."),
        (529, {"error": {"message": None}}, "overloaded_error", "HTTP 529"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_is_anthropics_with_the_same_status(web_once, upstream, gpt_alice, status, body, kind, words, stream):
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    upstream.answer = whole(status, raw, ("retry-after", "7"), ("x-request-id", "req_openai"))
    answer = post(web_once, gpt_alice.key, ask_gpt(stream=stream))
    told = answer.json()
    assert (answer.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)
    assert words in told["error"]["message"]
    assert told["request_id"] == answer.headers["request-id"] == "req_openai"
    assert answer.headers["retry-after"] == "7"
    entry = row()
    assert (entry.status, entry.http_status) == ("refused_by_provider", status)
    assert entry.cost == 0
    assert entry.error_type == kind


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, {"message": f"Incorrect API key: {OPENAI_SECRET}"}),
        (402, {"message": "Insufficient Balance"}),
        (403, {"message": "Not in your plan"}),
        (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
    ],
)
def test_an_error_about_our_account_is_hidden_from_the_client(web, upstream, gpt_alice, status, error):
    upstream.answer = whole(status, json.dumps({"error": error}).encode())
    said = refused(post(web, gpt_alice.key, ask_gpt()), 503, "api_error")
    assert "administrator" in said
    assert error["message"] not in said
    assert row().cost == 0


def test_every_success_is_one(web, upstream, gpt_alice):
    upstream.answer = whole(201, completion("Hi"))
    with sdk(web, gpt_alice) as client:
        assert client.messages.create(**ASKED).content[0].text == "Hi"
    check_counted(row())


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_that_goes_by_200_is_one(web, upstream, gpt_alice, stream):
    upstream.answer = whole(200, json.dumps({"error": {"message": "Upstream is away", "code": 502}}).encode())
    answer = post(web, gpt_alice.key, ask_gpt(stream=stream))
    assert (answer.status_code, answer.json()["error"]["message"]) == (502, "Upstream is away")
    assert row().cost == 0


@pytest.mark.parametrize(
    "answer",
    [
        whole(200, b"<html>Hello</html>"),
        whole(200, b"{}"),
        whole(200, b'{"choices": []}'),
        whole(302, completion("x"), ("location", "http://127.0.0.1:9/")),
        whole(200, completion("x", "error")),
        whole(200, completion(None, tool_calls=[{"id": "c", "function": {"arguments": "{}"}}])),
        broken([b'{"id": "chatcmpl-1", "choi'], End.CLOSE, ("content-type", "application/json")),
        broken([b'{"id": "chatcmpl-1", "choi'], End.RESET, ("content-type", "application/json")),
    ],
)
def test_an_invalid_answer_is_charged_as_an_estimate(web, upstream, gpt_alice, answer):
    upstream.answer = answer
    refused(post(web, gpt_alice.key, ask_gpt()), 502, "api_error")
    entry = row()
    assert (entry.status, entry.estimated) == ("failed", True)
    assert entry.cost > 0


def test_an_error_that_breaks_off_is_still_an_error(web, upstream, gpt_alice):
    head, *_ = whole(429, b'{"error": {"message": "Slow', ("content-type", "application/json"))
    upstream.answer = [head.replace(b"content-length: 27", b"content-length: 99"), End.CLOSE]
    answer = post(web, gpt_alice.key, ask_gpt())
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")
    assert row().cost == 0


@pytest.mark.parametrize("end", list(End))
def test_a_stream_that_breaks_off_ends_in_an_error(web, upstream, gpt_alice, end):
    upstream.answer = broken(chunks("one", "two")[:3], end)
    with sdk(web, gpt_alice) as client, pytest.raises(anthropic.APIStatusError) as caught:
        list(client.messages.create(**ASKED, stream=True))
    assert caught.value.type == "api_error"
    entry = row()
    assert (entry.status, entry.estimated) == ("failed", True)
    assert entry.cost > 0


def test_a_stream_that_just_ends_ends_in_an_error(web, upstream, gpt_alice):
    upstream.answer = pieces(200, chunks("one", "two")[:3])
    answer = post(web, gpt_alice.key, ask_gpt(stream=True))
    assert answer.text.count("event: error") == 1
    assert row().status == "failed"


@pytest.mark.parametrize("garbage", [b"data: {\n\n", b'data: {"choices": 7}\n\n'])
def test_nonsense_in_a_stream_ends_in_an_error(web, upstream, gpt_alice, garbage):
    upstream.answer = pieces(200, [chunk({"content": "Hi"}), garbage, *chunks("more")])
    answer = post(web, gpt_alice.key, ask_gpt(stream=True))
    assert answer.text.count("event: error") == 1
    assert answer.text.count("message_stop") == 0
    assert row().status == "failed"


def test_an_error_in_a_stream_reaches_the_client_in_the_providers_words(web, upstream, gpt_alice):
    error = b'data: {"error": {"message": "Too much.", "code": 429}}\n\n'
    upstream.answer = pieces(200, [*chunks("one")[:2], error])
    with sdk(web, gpt_alice) as client, pytest.raises(anthropic.APIStatusError, match="Too much") as caught:
        list(client.messages.create(**ASKED, stream=True))
    assert caught.value.type == "rate_limit_error"
    entry = row()
    assert (entry.status, entry.error_type, entry.estimated) == ("failed", "rate_limit_error", True)


def test_a_stream_of_an_error_alone_is_an_error_that_costs_nothing(web_once, upstream, gpt_alice):
    upstream.answer = pieces(200, [b'event: error\ndata: {"error": {"message": "No.", "code": 503}}\n\n'])
    answer = post(web_once, gpt_alice.key, ask_gpt(stream=True))
    assert (answer.status_code, answer.json()["error"]) == (503, {"type": "api_error", "message": "No."})
    assert row().status == "refused_by_provider"
    assert row().cost == 0


def test_a_whole_answer_instead_of_a_stream_becomes_events(web, upstream, gpt_alice):
    upstream.answer = whole(200, completion("Hi"))
    with sdk(web, gpt_alice) as client, client.messages.stream(**ASKED) as stream:
        assert stream.get_final_text() == "Hi"
    check_counted(row())


def test_a_client_that_hangs_up_is_billed(web, upstream, gpt_alice):
    upstream.answer = [*pieces(200, chunks("one", "two")[:3])[:-1], 30.0]
    body = json.dumps(ask_gpt(stream=True)).encode()
    with CLIENT.stream("POST", web.url + "/v1/messages", content=body, headers=credentials(gpt_alice.key)) as answer:
        next(answer.iter_raw())
    entry = row()
    assert (entry.status, entry.estimated) == ("client_disconnected", True)
    assert entry.cost > 0
    assert upstream.last.gone.wait(20)


def test_half_an_answer_is_waited_for_as_long_as_its_provider_key_says(web, upstream, gpt_alice):
    ProviderKey.objects.update(between_bytes_seconds=0.3)
    upstream.answer = [whole(200, completion())[0][:-20], 5.0]
    refused(post(web, gpt_alice.key, ask_gpt()), 504, "timeout_error")
    assert row().error_type == "no_answer_in_time"
