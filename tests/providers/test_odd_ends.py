"""Streams of vendors who end them as Anthropic never does: clients hear the end or the error all the same."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import anthropic
import pytest

from messages_api.providers import openai
from messages_api.providers.openai.events import EventTranslation
from messages_api.providers.openai.expected import Expected
from tests.support.fake_provider import pieces
from tests.support.gateway import CLIENT, ask, credentials, event, events, post, row
from tests.support.openai_events import last, translated
from tests.support.openai_provider import USAGE, ask_gpt, chunk, issue_openai

STOP = b'event: message_stop\ndata: {"type": "message_stop"}\n\n'
PARTS = events("Hello", " you")
PING = event("ping")


@pytest.mark.parametrize(
    "ending",
    [
        pieces(200, PARTS[:-1]),
        pieces(200, [*PARTS[:-1], PING]),
        [*pieces(200, PARTS[:-1])[:-1], threading.Event()],
        [*pieces(200, [*PARTS[:-1], PING])[:-1], *[0.4, b"%x\r\n%b\r\n" % (len(PING), PING)] * 12, threading.Event()],
    ],
    ids=["ends", "ends after a ping", "stays open", "stays open and pings"],
)
def test_an_answer_whose_stream_lacks_its_stop_is_complete(web_once, upstream, alice, ending):
    upstream.answer = ending
    with (
        anthropic.Anthropic(api_key=alice.key, base_url=web_once.url, max_retries=0) as client,
        client.messages.stream(**ask()) as stream,
    ):
        kinds = [each.type for each in stream]
        assert kinds[-1] == "message_stop"
        assert stream.get_final_text() == "Hello you"
    entry = row()
    assert (entry.status, entry.stop_reason, entry.error_type) == ("completed", "end_turn", "")
    assert (entry.input_tokens, entry.output_tokens, entry.estimated) == (11, 7, False)


def test_the_stop_that_is_missing_is_all_that_is_added(web_once, upstream, alice):
    upstream.answer = pieces(200, PARTS[:-1])
    assert post(web_once, alice.key, ask(stream=True)).content == b"".join(PARTS[:-1]) + STOP


def test_a_stream_that_stays_open_after_its_stop_ends(web_once, upstream, alice):
    upstream.answer = [*pieces(200, PARTS)[:-1], threading.Event()]
    assert post(web_once, alice.key, ask(stream=True)).content == b"".join(PARTS)
    assert upstream.last.gone.wait(30)
    assert (row().output_tokens, row().estimated, row().status) == (7, False, "completed")


def test_an_answer_that_has_not_stopped_breaks_off_as_ever(web_once, upstream, alice):
    upstream.answer = pieces(200, PARTS[:-2])
    assert b"event: error" in post(web_once, alice.key, ask(stream=True)).content
    assert (row().status, row().error_type) == ("failed", "broken_off")


ERROR = {"message": "Worker limit reached", "code": 429}
FIRST = [
    b'data: {"type":"error","error":{"type":"rate_limit_error","message":"Worker limit reached"}}\n\n',
    b'data: {"error": {"message": "Worker limit reached", "code": 429}}\n\n',
    b'event: message\ndata: {"error": {"message": "Worker limit reached", "code": 429}}\n\n',
    b'data: {"code": 429, "msg": "Worker limit reached", "success": false}\n\n',
    b'{"error": {"message": "Worker limit reached", "code": 429}}',
    b'{\n  "error": {\n    "message": "Worker limit reached", "code": 429\n  }\n}\n',
]


@pytest.mark.parametrize("said", FIRST, ids=repr)
def test_an_error_that_is_no_event_of_its_own_is_one_and_free(web_once, upstream, alice, said):
    upstream.answer = pieces(200, [said])
    with (
        anthropic.Anthropic(api_key=alice.key, base_url=web_once.url, max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError, match="Worker limit reached") as raised,
        client.messages.stream(**ask()) as stream,
    ):
        stream.get_final_message()
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["error"]["type"] == "rate_limit_error"
    entry = row()
    assert (entry.status, entry.estimated) == ("failed", False)
    assert not entry.cost


def test_an_error_without_a_type_in_the_middle_of_a_stream_is_heard(web_once, upstream, alice):
    upstream.answer = pieces(200, [*PARTS[:3], b"data: " + json.dumps({"error": ERROR}).encode() + b"\n\n"])
    sent = post(web_once, alice.key, ask(stream=True)).content
    assert sent.endswith(b"\n\n")
    last = sent.split(b"\n\n")[-2]
    assert last.startswith(b"event: error\n")
    assert json.loads(last.split(b"data: ")[1])["error"] == {
        "type": "rate_limit_error",
        "message": "Worker limit reached",
    }
    assert (row().status, row().estimated) == ("failed", True)


@pytest.mark.parametrize("kind", ["application/octet-stream", "text/plain; charset=utf-8"])
def test_a_stream_without_its_type_is_one(web_once, upstream, alice, kind):
    upstream.answer = pieces(200, PARTS, ("content-type", kind))
    answer = post(web_once, alice.key, ask(stream=True))
    assert answer.content == b"".join(PARTS)
    assert answer.headers.get_list("content-type") == ["text/event-stream"]
    assert (row().output_tokens, row().estimated) == (7, False)


COMMENT = b": keep-alive\n\n"


@pytest.mark.parametrize(
    ("ending", "estimated"),
    [
        ([chunk({}, "stop"), chunk(usage=USAGE)], False),
        ([chunk({}, "stop", usage=USAGE)], False),
        ([chunk({}, "stop")], True),
    ],
    ids=["with usage", "with usage at once", "without usage"],
)
@pytest.mark.parametrize("alive", [True, False], ids=["comments", "silence"])
def test_a_stream_of_chunks_ends_though_its_provider_never_ends_it(
    web_once, upstream, served, ending, estimated, alive
):
    """Without `[DONE]`, and with a connection that stays open."""
    caller = issue_openai(upstream)
    comments = [0.3, b"%x\r\n%b\r\n" % (len(COMMENT), COMMENT)] * (60 if alive else 0)
    upstream.answer = [*pieces(200, [chunk({"content": "Hi"}), *ending])[:-1], *comments, threading.Event()]
    told = CLIENT.post(
        web_once.url + "/v1/messages", json=ask_gpt(stream=True), headers=credentials(caller.key)
    ).content
    assert told.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert upstream.last.gone.wait(30)
    assert (row().status, row().stop_reason, row().estimated) == ("completed", "end_turn", estimated)


class Arriving:
    """An answer whose chunks come three seconds after one another."""

    def __init__(self, chunks):
        self.left = list(chunks)
        self.now = 1000.0

    async def read(self):
        await asyncio.sleep(0)
        self.now += 3
        return self.left.pop(0) if self.left else b""

    def monotonic(self):
        return self.now

    def close(self):
        self.left = []


def test_a_stream_that_says_it_has_stopped_with_each_chunk_is_read_to_its_end(monkeypatch):
    said = [chunk({"content": f"word {number} "}, "stop") for number in range(9)]
    answer: Any = Arriving([*said, chunk(usage=USAGE), b"data: [DONE]\n\n"])
    monkeypatch.setattr(openai, "time", answer)

    async def read():
        streamed = openai.Streamed(answer, [], EventTranslation(Expected("gpt", stream=True)))
        assert await streamed.begin(None) is None
        parts = []
        while part := await streamed.read():
            parts.append(part)
        return b"".join(parts)

    told = asyncio.run(read())
    assert all(f"word {number} ".encode() in told for number in range(9))
    assert told.count(b"event: message_stop") == 1
    assert f'"output_tokens":{USAGE["completion_tokens"]}'.encode() in told


def test_a_reason_for_the_end_stays_if_a_plain_stop_follows():
    made = translated([chunk({"content": "Hi"}), chunk({}, "length"), chunk({}, "stop"), chunk(usage=USAGE)])
    assert last(made)["delta"]["stop_reason"] == "max_tokens"
