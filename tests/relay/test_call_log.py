"""The log as JSON: one line for each call, with its ids, counts and times, and without keys and content."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from keys import issuing
from tests.support import planted
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, credentials, events, issue, message, post, row, rows, started, wait_until

HOSTILE = 'claude-\u2028\x1b[2J\r\n{"level":"ERROR"}' + "x" * 500


@pytest.fixture
def logging_web(start_web, served):
    """A gateway whose log is JSON."""
    return start_web(log_format="json")


@pytest.fixture
def lines(logging_web):
    """The lines since the test began, as a function: of the requests with an id, or all."""
    before = logging_web.log.stat().st_size

    def read(request_id=None, count=1):
        def found():
            written = logging_web.log.read_bytes()[before:].decode("ascii").splitlines()
            parsed = [json.loads(line) for line in written]
            mine = [line for line in parsed if line.get("request_id") == request_id or request_id is None]
            return mine if len(mine) >= count else []

        return wait_until(found)

    return read


def id_of(answer):
    return answer.headers["x-bf-request-id"]


def test_a_call_is_one_line_with_what_its_ledger_row_has(logging_web, lines, alice, upstream):
    upstream.answer = whole(200, message("Words for Alice alone"), ("request-id", "req_theirs"))
    answer = post(logging_web, alice.key, ask("A prompt of Alice alone"))
    entry, (line,) = row(), lines(id_of(answer))
    assert (line["message"], line["level"], line["status"]) == ("call", "INFO", "completed")
    assert (line["virtual_key"], line["virtual_key_name"]) == (alice.virtual_key.id, "alice")
    assert (line["customer"], line["team"]) == (alice.virtual_key.customer_id, alice.team.id)
    assert (line["endpoint"], line["stream"]) == ("messages", False)
    assert (line["model"], line["requested_model"]) == (entry.model, ask()["model"])
    assert (line["provider"], line["provider_key"]) == ("anthropic", "main")
    assert (line["http_status"], line["stop_reason"], line["error_type"]) == (200, "end_turn", "")
    assert line["provider_request_id"] == entry.provider_request_id == "req_theirs"
    assert line["tokens"] == {"input_tokens": 11, "output_tokens": 7}
    assert Decimal(line["cost_usd"]) == entry.cost > 0
    assert line["duration_ms"] == entry.duration_ms
    assert line["time_to_first_byte_ms"] == entry.time_to_first_byte_ms
    (attempt,) = line["attempts"]
    assert (attempt["provider_key"], attempt["http_status"]) == ("main", 200)


def test_a_stream_is_one_line(logging_web, lines, alice, upstream):
    upstream.answer = [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", *events("Hello", "you")]
    answer = post(logging_web, alice.key, ask(stream=True))
    (line,) = lines(id_of(answer))
    assert (line["status"], line["stream"]) == ("completed", True)
    assert line["tokens"] == {"input_tokens": 11, "output_tokens": 7}


def test_a_refused_request_is_one_line_without_the_credential(logging_web, lines, alice):
    issuing.revoke(alice.virtual_key)
    (line,) = lines(id_of(post(logging_web, alice.key)))
    assert (line["message"], line["status"], line["http_status"]) == ("refused", "refused", 401)
    assert (line["reason"], line["virtual_key"]) == ("revoked", alice.virtual_key.id)
    assert alice.key not in json.dumps(line)


def test_a_call_that_its_provider_fails_is_one_line(logging_web, lines, alice, upstream):
    upstream.answer = whole(400, b'{"type":"error","error":{"type":"invalid_request_error","message":"A secret word"}}')
    answer = post(logging_web, alice.key)
    row()
    (line,) = lines(id_of(answer))
    assert (line["status"], line["error_type"]) == ("refused_by_provider", "invalid_request_error")


def test_a_free_call_is_a_line_without_cost(logging_web, lines, alice, upstream):
    upstream.answer = whole(200, b'{"input_tokens": 3}')
    answer = post(logging_web, alice.key, path="/v1/messages/count_tokens")
    (line,) = lines(id_of(answer))
    assert (line["endpoint"], line["status"]) == ("count_tokens", "completed")
    assert "cost_usd" not in line


def test_a_providers_own_words_are_bounded_and_forge_no_line(logging_web, lines, alice, upstream):
    body = {"type": "error", "error": {"type": HOSTILE, "message": "no"}}
    upstream.answer = whole(400, json.dumps(body).encode())
    answer = post(logging_web, alice.key)
    (line,) = lines(id_of(answer))
    assert len(lines()) == 1
    assert line["error_type"] == HOSTILE[:200]


def test_a_callers_own_words_are_bounded(logging_web, lines, alice, upstream):
    upstream.answer = whole(200, message())
    answer = post(logging_web, alice.key, ask(model="claude-" + "x" * 190))
    (line,) = lines(id_of(answer))
    assert line["requested_model"] == "claude-" + "x" * 190
    assert post(logging_web, alice.key, ask(model="claude-" + "x" * 100_000)).status_code == 400
    assert max(len(json.dumps(line)) for line in lines(count=2)) < 2000


def test_a_key_in_the_wrong_place_is_masked(logging_web, lines, alice, upstream):
    upstream.answer = whole(200, message())
    answer = post(logging_web, alice.key, ask(model=alice.key))
    (line,) = lines(id_of(answer))
    assert line["requested_model"] == "sk-bf-…"


def test_a_page_and_its_lines_have_a_request_id(logging_web, lines):
    answer = CLIENT.post(logging_web.url + "/admin/login/", data={"username": "x"})
    assert answer.status_code == 403
    assert {line["logger"] for line in lines(id_of(answer))} == {"django.security.csrf"}
    answer = CLIENT.get(logging_web.url + "/api/v1/teams", headers={"authorization": "Bearer nothing"})
    assert "keys.sign_in" in {line["logger"] for line in lines(id_of(answer))}


def test_calls_have_no_line_in_a_log_for_people(web, alice, upstream):
    upstream.answer = whole(200, message())
    before = web.log.stat().st_size
    assert post(web, alice.key).status_code == 200
    row()
    assert web.log.stat().st_size == before


@pytest.mark.parametrize("what", ["key", "prompt", "unknown key"])
def test_a_gateway_whose_log_has_what_was_planted_fails_its_test(served, upstream, what):
    bob = issue(upstream, "bob")
    text = {"key": bob.key, "prompt": "the prompt of Bob", "unknown key": "gt-bf-" + "a" * 49}[what]
    ask("the prompt of Bob")

    def leak():
        with started() as web:
            log = web.log
            with log.open("a") as file:
                file.write(f"before {text} after\n")

    with pytest.raises(AssertionError, match="a gateway's log has") as caught:
        leak()
    assert text not in str(caught.value)
    assert planted.found("nothing") == []


def test_several_calls_are_as_many_lines(logging_web, lines, alice, upstream):
    upstream.answer = whole(200, message())
    answers = [CLIENT.post(logging_web.url + "/v1/messages", json=ask(), headers=credentials(alice.key)) for _ in "123"]
    rows(3)
    assert [len(lines(id_of(answer))) for answer in answers] == [1, 1, 1]
