"""What an OpenAI-compatible provider says is wrong: whose mistake that is, in any envelope, and who is tried then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from keys import provider_keys
from keys.models import Cooldown, Customer, ProviderKey
from messages_api.providers.base import ACCOUNT_STATUSES
from messages_api.providers.openai import faults
from messages_api.providers.openai.events import EventTranslation
from messages_api.providers.openai.expected import Expected
from tests.support.fake_provider import Upstream, pieces, whole
from tests.support.gateway import events, issue, post, row
from tests.support.openai_events import decode
from tests.support.openai_provider import (
    DONE,
    GPT,
    OPENAI_SECRET,
    USAGE,
    ask_gpt,
    chunk,
    chunks,
    completion,
    issue_openai,
)
from tests.support.two_providers import provider_key


@pytest.fixture
def other():
    with Upstream() as upstream:
        upstream.answer = lambda seen: (
            pieces(200, chunks("from the other"))
            if json.loads(seen.body).get("stream")
            else whole(200, completion("other"))
        )
        yield upstream


@pytest.fixture
def two(served, upstream, other):
    """A caller whose calls go to one OpenAI-compatible provider key, and to another where that can't answer."""
    made = [
        provider_keys.add_provider_key(name=name, provider="openai", base_url=at.url + "/v1", secret=OPENAI_SECRET)
        for name, at in (("one", upstream), ("other", other))
    ]
    return issue(None, provider_keys=[(made[0], 1_000_000), (made[1], 1)])


MISTAKES: list[Any] = [
    {"error": {"message": "Bad.", "type": "invalid_request_error", "code": None}},
    {"error": {"message": "Bad.", "type": "invalid_request_error", "code": "unsupported_value", "param": "x"}},
    {"object": "error", "message": "Bad.", "type": "BadRequestError", "param": None, "code": 400},
    {"error": {"message": "Bad.", "type": "BadRequestError", "code": "400"}},
    {"error": {"message": "Bad.", "code": "invalid_parameter_error"}, "request_id": "r"},
    {"code": "InvalidParameter", "message": "Bad.", "request_id": "r"},
    {"error": {"message": "Bad.", "code": "context_length_exceeded"}},
    {"error": [{"message": "Bad.", "code": 400}]},
    {"errors": [{"message": "Bad.", "code": 400}], "success": False},
    {"detail": {"error": {"message": "Bad.", "code": 400}}},
    {"error": json.dumps({"error": {"message": "Bad.", "type": "invalid_request_error"}})},
    {"error": {"message": json.dumps({"error": {"message": "Bad.", "code": "400"}}), "code": 500, "type": "api_error"}},
    {"error": {"message": "litellm.BadRequestError: Bad."}},
    [{"error": {"code": 400, "message": "Bad.", "status": "INVALID_ARGUMENT"}}],
    {"id": "x", "choices": [{"index": 0, "delta": {"content": ""}, "error": {"code": 400, "message": "Bad."}}]},
    {"id": "x", "choices": None, "base_resp": {"status_code": 2013, "status_msg": "Bad."}},
    {"id": "x", "choices": [], "base_resp": {"status_code": 1026, "status_msg": "Bad."}},
    {"error": {"message": "Bad.", "code": "ValidationException"}},
    {"error": {"message": "Bad.", "code": "InputTextSensitiveContentDetected.PolicyViolation"}},
]


def frame(said: Any) -> bytes:
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def answers(said: Any, form: str) -> Any:
    """How a provider says it."""
    return {
        "stream": lambda: pieces(200, [frame(said), DONE]),
        "stream after its role": lambda: pieces(200, [chunk({"role": "assistant", "content": ""}), frame(said)]),
        "event": lambda: pieces(200, [b": PROCESSING\n\nevent: error\n" + frame(said)]),
        "no event": lambda: pieces(200, [json.dumps(said).encode() + b"\n"]),
        "json": lambda: whole(200, json.dumps(said).encode()),
        "http 500": lambda: whole(500, json.dumps(said).encode()),
        "http 400": lambda: whole(400, json.dumps(said).encode()),
    }[form]()


FORMS = ["stream", "stream after its role", "event", "no event", "json", "http 500", "http 400"]


@pytest.mark.parametrize(
    ("said", "form"),
    [
        *((said, ["stream", "json"][number % 2]) for number, said in enumerate(MISTAKES)),
        *((MISTAKES[1], form) for form in FORMS),
        (MISTAKES[11], "http 500"),
    ],
)
def test_a_callers_mistake_is_a_single_400_and_no_provider_key_cools_down(web, two, upstream, other, said, form):
    upstream.answer = answers(said, form)
    answer = post(web, two.key, ask_gpt(stream=form not in ("json", "http 500")))
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert answer.json()["error"]["message"].endswith("Bad.")
    assert (len(upstream.seen), other.seen) == (1, [])
    assert not Cooldown.objects.exists()
    assert (row().status, row().http_status) == ("refused_by_provider", 400)
    assert row().cost == 0
    assert len(row().attempts) == 1


@pytest.mark.parametrize(
    ("said", "status", "cools"),
    [
        ({"error": {"message": "No.", "type": "invalid_request_error", "code": "invalid_api_key"}}, 401, True),
        ({"error": {"message": "No.", "code": "401"}}, 401, True),
        ({"error": {"message": "No.", "code": 402}}, 402, True),
        ({"error": {"message": "No.", "type": "insufficient_quota"}}, 402, True),
        ({"error": {"message": "No.", "code": 403}}, 403, True),
        ({"object": "error", "message": "No.", "type": "PermissionDeniedError"}, 403, True),
        ({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "No."}}, 402, True),
        ({"choices": None, "base_resp": {"status_code": 2049, "status_msg": "No."}}, 401, True),
        ({"choices": None, "base_resp": {"status_code": 1002, "status_msg": "No."}}, 429, True),
        ({"choices": None, "base_resp": {"status_code": 1013, "status_msg": "No."}}, 500, False),
        ({"error": {"message": "No.", "type": "insufficient_balance_error"}}, 402, True),
        ([{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}], 401, True),
        ({"error": {"message": "No.", "code": "408"}}, 408, False),
        ({"error": {"message": "No.", "code": 409}}, 409, False),
        ({"error": {"message": "No.", "code": 429}}, 429, True),
        ({"detail": "No.", "type": "RateLimitError"}, 429, True),
        ({"error": {"message": "No.", "type": "server_error"}}, 500, False),
        ({"error": "out of memory"}, 500, False),
    ],
)
@pytest.mark.parametrize("form", ["stream", "json"])
def test_our_own_and_temporary_errors_are_retried_at_another_provider(
    web, two, upstream, other, said, status, cools, form
):
    upstream.answer = answers(said, form)
    answer = post(web, two.key, ask_gpt(stream=form != "json"))
    assert answer.status_code == 200
    assert "other" in answer.text
    assert ([seen.method for seen in upstream.seen].count("POST"), len(other.seen)) == (1, 1)
    assert [each["http_status"] for each in row().attempts] == [status, 200]
    if status in ACCOUNT_STATUSES:  # another customer's word is needed
        one, another = (ProviderKey.objects.get(name=name) for name in ("one", "other"))
        globex = Customer.objects.create(name="Globex")
        bob = issue(None, "bob", customer=globex, team=None, provider_keys=[(one, 1_000_000), (another, 1)])
        post(web, bob.key, ask_gpt(stream=form != "json"))
    assert Cooldown.objects.exists() >= cools


@pytest.mark.parametrize("form", ["stream", "json", "http 400"])
def test_a_model_that_the_provider_lacks_is_reported_in_anthropics_words(web, two, upstream, other, form):
    upstream.answer = answers({"error": {"message": "No such.", "code": "model_not_found"}}, form)
    answer = post(web, two.key, ask_gpt(stream=form == "stream"))
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, f"model: {GPT}")
    assert not other.seen


@pytest.mark.parametrize("said", MISTAKES[:-1:3])
def test_a_mistake_in_the_middle_of_a_stream_is_its_last_event(web, two, upstream, other, said):
    upstream.answer = pieces(200, [*chunks("Hi")[:2], frame(said), *chunks("more")])
    name, last = decode(post(web, two.key, ask_gpt(stream=True)).content)[-1]
    assert (name, last["error"]["type"]) == ("error", "invalid_request_error")
    assert last["error"]["message"].endswith("Bad.")
    assert not other.seen
    assert (row().status, row().error_type) == ("failed", "invalid_request_error")


@pytest.mark.parametrize(
    ("kind", "tried"), [("invalid_request_error", 0), ("request_too_large", 0), ("overloaded_error", 1)]
)
def test_anthropics_own_streams_that_begin_with_a_mistake_are_the_answer(web, served, upstream, other, kind, tried):
    error = json.dumps({"type": "error", "error": {"type": kind, "message": "Bad."}}).encode()
    upstream.answer = pieces(200, [b"event: error\ndata: " + error + b"\n\n"])
    other.answer = pieces(200, events("Hi"))
    alice = issue(
        upstream, provider_keys=[(provider_key("first", upstream), 1_000_000), (provider_key("second", other), 1)]
    )
    answer = post(web, alice.key, {"model": "claude-opus-5-5", "max_tokens": 9, "stream": True, **MESSAGES})
    assert (b"Bad." in answer.content, len(other.seen)) == (not tried, tried)
    assert Cooldown.objects.count() == tried
    assert row().status == ("completed" if tried else "failed")


MESSAGES = {"messages": [{"role": "user", "content": "Hi"}]}


# An answer of nothing


NOTHING = [None, {}, USAGE | {"completion_tokens": 0, "total_tokens": 100}]


@pytest.mark.parametrize("usage", NOTHING)
@pytest.mark.parametrize("text", ["", None])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_nothing_is_made_elsewhere(web, two, upstream, other, stream, text, usage):
    parts = [chunk({"role": "assistant", "content": text}), chunk({}, "stop"), chunk(usage=usage), DONE]
    upstream.answer = pieces(200, parts) if stream else whole(200, completion(text, usage=usage))
    answer = post(web, two.key, ask_gpt(stream=stream))
    assert (answer.status_code, "other" in answer.text) == (200, True)
    assert [each["error_type"] for each in row().attempts] == ["empty_answer", ""]
    assert row().estimated


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_nothing_is_an_error_where_there_is_nowhere_else(web_once, served, upstream, stream):
    alice = issue_openai(upstream)
    upstream.answer = pieces(200, chunks(usage=None)) if stream else whole(200, completion("", usage=None))
    answer = post(web_once, alice.key, ask_gpt(stream=stream))
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "api_error")
    assert (row().status, row().error_type, row().estimated) == ("failed", "empty_answer", True)
    # It says that it was done, and wrote nothing: once, and for what it read.
    assert (len(upstream.seen), row().output_tokens) == (1, 0)
    assert row().cost > 0


@pytest.mark.parametrize("code", [400, 422, "422", 418])
def test_a_mistake_that_anthropic_has_no_status_for_is_a_400(web, two, upstream, other, code):
    said = {"error": {"message": "bad field", "code": code, "type": "UnprocessableEntity"}}
    upstream.answer = pieces(200, [b"data: " + json.dumps(said).encode() + b"\n\n"])
    answer = post(web, two.key, ask_gpt(stream=True))
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert len(upstream.seen) == 1
    assert not other.seen


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_has_nothing_to_say_is_billed(web, two, upstream, other, stream):
    upstream.answer = pieces(200, chunks()) if stream else whole(200, completion(""))
    answer = post(web, two.key, ask_gpt(stream=stream))
    told = decode(answer.content)[-2][1]["delta"] if stream else answer.json()
    assert told["stop_reason"] == "end_turn"
    assert stream or told["content"] == []
    assert not other.seen
    assert (row().status, row().output_tokens, row().estimated) == ("completed", 7, False)
    assert row().cost > 0


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_tokens"), ("content_filter", "refusal")])
def test_nothing_for_a_reason_is_an_answer(web, two, upstream, finish, reason):
    upstream.answer = whole(200, completion(None, finish))
    assert post(web, two.key, ask_gpt()).json()["stop_reason"] == reason


# Without a gateway


@pytest.mark.parametrize("status", [401, 403, 404, 413, 422, 429, 503])
def test_a_status_that_says_something_is_kept(status):
    assert faults.of_answer(status, b'{"error": {"message": "x", "code": 500}}', GPT, "")[0] == status


def test_envelopes_without_an_end_are_opened_to_a_depth():
    said: Any = {"code": 400}
    for depth in range(12):
        said = {"error": json.dumps(said) if depth < 3 else [said] * 2}
    status, body = faults.of_answer(0, json.dumps(said).encode(), GPT, "")
    assert (status, json.loads(body)["type"]) == (500, "error")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("API key not valid. Please pass a valid API key.", 401),
        ("Incorrect API key provided: xa***Zz. You can obtain an API key from https://console.x.ai.", 401),
        ("Invalid API key", 401),
        ("Invalid API key: Extra inputs are not permitted", 400),
        ("API key not valid: unknown field", 400),
    ],
)
def test_a_member_that_is_named_like_a_refusal_of_our_key_is_the_callers(words, status):
    assert faults.of_json(400, {"error": {"message": words}}, GPT, "")[0] == status


def test_a_vendors_number_for_success_is_no_error() -> None:
    fine = {"status_code": 0, "status_msg": "success"}
    said = [chunk({"content": "Hi"}, base_resp=fine), chunk({}, "stop", base_resp=fine), chunk(usage=USAGE), DONE]
    events = EventTranslation(Expected("m", stream=True))
    assert b"Hi" in b"".join([*map(events.feed, said), events.finish()])
    assert not events.failed
