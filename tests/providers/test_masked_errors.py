"""Vendors who speak Anthropic's API and answer HTTP 200 with an error: it is taken for the error that it is."""

from __future__ import annotations

import json

import anthropic
import pytest

from keys import provider_keys
from tests.support.fake_provider import whole
from tests.support.gateway import PROVIDER_SECRET, ask, issue, message, post, row

ERRORS = [
    ({"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}, 529, "overloaded_error", "Busy"),
    ({"type": "error", "error": {"type": "rate_limit_error", "message": "Slow"}}, 429, "rate_limit_error", "Slow"),
    ({"type": "error", "error": {"type": "invalid_request_error", "message": "N"}}, 400, "invalid_request_error", "N"),
    ({"error": {"message": "Worker limit reached", "code": 502}}, 502, "api_error", "Worker limit reached"),
    ({"error": {"message": "Slow down", "code": "429"}}, 429, "rate_limit_error", "Slow down"),
    ({"error": {"message": "Try later", "code": "1305"}}, 500, "api_error", "Try later"),
    ({"error": "no such worker"}, 500, "api_error", "no such worker"),
    ({"code": 500, "msg": "404 NOT_FOUND", "success": False}, 500, "api_error", "404 NOT_FOUND"),
    ({"code": 404, "message": "no such path", "data": None}, 404, "not_found_error", "no such path"),
    ({"base_resp": {"status_code": 1033, "status_msg": "system error"}}, 500, "api_error", "system error"),
    ({"error": {"message": "bad"}, "usage": {"input_tokens": 0}, "content": None}, 500, "api_error", "bad"),
]


@pytest.mark.parametrize(("said", "status", "kind", "words"), ERRORS, ids=lambda value: json.dumps(value)[:60])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_an_error_that_comes_as_a_success_is_one_and_free(web_once, upstream, alice, said, status, kind, words, path):
    upstream.answer = whole(200, json.dumps(said).encode(), ("content-type", "text/plain"))
    answer = post(web_once, alice.key, path=path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"] == {"type": kind, "message": words}
    if path.endswith("count_tokens"):
        return
    entry = row()
    assert (entry.status, entry.http_status, entry.error_type) == ("refused_by_provider", status, kind)
    assert (entry.estimated, entry.input_tokens) == (False, 0)
    assert not entry.cost


def test_an_sdk_raises_an_error_that_came_as_a_success(web_once, upstream, alice):
    upstream.answer = whole(200, b'{"error": {"message": "Worker limit reached", "code": 429}}')
    with (
        anthropic.Anthropic(api_key=alice.key, base_url=web_once.url, max_retries=0) as client,
        pytest.raises(anthropic.RateLimitError, match="Worker limit reached"),
    ):
        client.messages.create(**ask())


def test_an_error_in_anthropics_shape_keeps_its_bytes(web_once, upstream, alice):
    body = b'{ "type":"error", "error":{"type":"overloaded_error","message":"Busy"}, "request_id":"req_7" }'
    upstream.answer = whole(200, body)
    assert post(web_once, alice.key).content == body


def test_an_error_that_came_as_a_success_is_tried_elsewhere(web, upstream, served):
    keys = [
        provider_keys.add_provider_key(name=name, provider="anthropic", base_url=upstream.url, secret=secret)
        for name, secret in (("one", PROVIDER_SECRET), ("two", PROVIDER_SECRET + "2"))
    ]
    caller = issue(upstream, provider_keys=[(key, 1) for key in keys])
    first = []

    def answer(seen):
        first.append(seen)
        body = b'{"code": 500, "msg": "internal", "success": false}' if len(first) == 1 else message()
        return whole(200, body)

    upstream.answer = answer
    assert post(web, caller.key).content == message()
    entry = row()
    assert [attempt["http_status"] for attempt in entry.attempts] == [500, 200]
    assert (entry.output_tokens, entry.estimated) == (7, False)


def test_a_vendor_that_refuses_our_key_with_a_success_is_our_trouble(web_once, upstream, alice):
    upstream.answer = whole(200, b'{"type":"error","error":{"type":"authentication_error","message":"bad key sk-1"}}')
    answer = post(web_once, alice.key)
    assert answer.status_code == 503
    assert "sk-1" not in answer.text


@pytest.mark.parametrize("more", [{"error": None}, {"code": 0, "msg": "ok"}, {"message": "ok", "code": 200}], ids=repr)
def test_an_answer_with_members_of_an_error_is_an_answer(web_once, upstream, alice, more):
    body = message(**more)
    upstream.answer = whole(200, body)
    assert post(web_once, alice.key).content == body
    assert row().output_tokens == 7
