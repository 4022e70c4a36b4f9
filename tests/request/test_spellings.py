"""A request means the same however its JSON is written: it is held, bound, routed and refused alike."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messages_api.request import batch_body, estimates, plain, reading
from messages_api.server.errors import GatewayError
from tests.support.fake_provider import whole
from tests.support.gateway import MODEL, ask, post, refused
from tests.support.recordings import recordings

EXAMPLES = int(os.environ.get("SPELLING_EXAMPLES", 100))

OPUS = "claude-opus-4-5"
HOUR = {"type": "ephemeral", "ttl": "1h"}
TEXT = {"type": "text", "text": 'She said "1.0, 2.0" and \\ left; § 日本 👋.0,', "cache_control": HOUR}
IMAGE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB/" * 20}
# What no recording has, or few have.
REQUESTS: list[dict[str, Any]] = [
    ask(model=OPUS, container="container_1", temperature=1.0, metadata={"user_id": "1"}),
    ask(
        [TEXT, {"type": "image", "source": IMAGE}, {"type": "document", "source": {"type": "url", "url": "https://a"}}]
    ),
    ask([{"type": "container_upload", "file_id": "file_1"}, {"type": "odd", "file_id": "file_2", "file": [1.5, -0.0]}]),
    ask(container={"id": "container_2", "skills": [{"type": "custom", "skill_id": "a", "version": "1"}]}),
    ask(
        system=[TEXT],
        tools=[
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
            {"name": "a", "input_schema": {"type": "object", "properties": {"signature": {"maximum": 2**70}}}},
        ],
        thinking={"type": "enabled", "budget_tokens": 2048},
    ),
    ask(
        messages=[
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "", "signature": "c2lnbmVk"},
                    {"type": "redacted_thinking", "data": "c2VhbGVk"},
                    {"type": "tool_use", "id": "a", "name": "b", "input": {"signature": "x", "n": [1000, 5e-7]}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [TEXT]}]},
        ]
    ),
    ask(fallbacks=["claude-haiku-4-5", "bedrock/claude-opus-4-5"]),
    ask(
        fallbacks=[{"model": "claude-haiku-4-5", "max_tokens": 9}],
        mcp_servers=[{"type": "url", "url": "u", "name": "n"}],
    ),
    # Refused.
    ask(max_tokens=-1),
    ask([{"type": "text"}]),
    ask(tools=[{"type": "custom", "name": "a"}]),
    ask(thinking={"type": "enabled", "budget_tokens": 3}),
]


class Writer:
    """Writes JSON in one of its spellings."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.escapes, self.spaces = self.random.random() ** 2, self.random.random() ** 2

    def write(self, value: Any) -> str:
        match value:
            case dict():
                members = [(name, inner) for name, inner in value.items()]
                self.random.shuffle(members)
                inner = [f"{self.space()}{self.string(name)}{self.space()}:{self.write(one)}" for name, one in members]
                return f"{self.space()}{{{','.join(inner)}{self.space()}}}{self.space()}"
            case list():
                return f"{self.space()}[{','.join(map(self.write, value))}{self.space()}]{self.space()}"
            case str():
                return self.space() + self.string(value) + self.space()
            case bool() | None:
                return self.space() + json.dumps(value) + self.space()
            case _:
                return self.space() + self.number(value) + self.space()

    def space(self) -> str:
        if self.random.random() >= self.spaces:
            return ""
        return "".join(self.random.choices(" \t\r\n", k=self.random.randint(1, 3)))

    def string(self, value: str) -> str:
        return '"' + "".join(map(self.character, value)) + '"'

    def character(self, one: str) -> str:
        if self.random.random() < self.escapes:
            if one == "/" and self.random.random() < 0.5:
                return r"\/"
            units = one.encode("utf-16-be")
            numbers = (units[at : at + 2].hex() for at in range(0, len(units), 2))
            return "".join("\\u" + (each.upper() if self.random.random() < 0.5 else each) for each in numbers)
        return one if one >= " " and one not in '"\\' else json.dumps(one)[1:-1]

    def number(self, value: Any) -> str:
        spellings = [json.dumps(value)]
        if isinstance(value, float) or abs(value) < 2**53:
            spellings += [f"{float(value)!r}", f"{float(value):.17e}", f"{float(value):.17E}".replace("E+", "E")]
            if float(value).is_integer():
                more = ["-0", "-0.0", "0e5"] if value == 0 else [f"{int(value)}0e-1"]
                spellings += [f"{int(value)}", f"{int(value)}.000", f"{int(value)}e0", *more]
        return self.random.choice([one for one in spellings if float(one) == value])


def meaning(body: bytes) -> Any:
    """All that depends on what a request means: its estimate, bindings, route, cache writes and refusal."""
    try:
        read = reading.read(body, betas="", counting=False, signatures=True, opening=True)
    except GatewayError as error:
        return error.status_code, error.message
    request = read.request
    return read, estimates.estimate(request.contents, request.model, request.added, request.extras)


def in_a_batch(body: bytes, spelled: Callable[[Any], str]) -> Any:
    """The same of a request in a batch."""
    batch = spelled({"requests": [{"custom_id": "one", "params": "PARAMS"}]}).encode()
    place = next(quoted for quoted in (spelled("PARAMS").strip().encode(), b'"PARAMS"') if quoted in batch)
    try:
        return batch_body.read(batch.replace(place, body), os.open(os.devnull, os.O_WRONLY), signatures=True)
    except GatewayError as error:
        return error.status_code, error.message


@cache
def originals() -> list[dict[str, Any]]:
    found = {json.dumps(one.request): one.request for one in recordings() if one.has_request}
    return [*REQUESTS, *found.values()]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.integers(0, 2**32))
def test_a_request_means_the_same_however_it_is_written(data: st.DataObject, seed: int) -> None:
    original = data.draw(st.sampled_from(originals()))
    body, rewritten = json.dumps(original).encode(), Writer(seed).write(original).encode()
    assert meaning(rewritten) == meaning(body)


@settings(max_examples=max(20, EXAMPLES // 20), deadline=None)
@given(st.sampled_from(REQUESTS), st.integers(0, 2**32))
def test_so_does_one_in_a_batch(original: dict[str, Any], seed: int) -> None:
    plainly = in_a_batch(json.dumps(original).encode(), json.dumps)
    writer = Writer(seed)
    writer.escapes = 0  # of the batch around it, so that its request is found
    assert in_a_batch(Writer(seed).write(original).encode(), writer.write) == plainly


NUMBERS = ["1.0", "-0.0", "1e3", "[1.0,2.5,10.0,1e-9]", '{"a":0.0}', "12345678901234567890123", "0.10", "1e20"]


documents = st.recursive(
    st.text() | st.sampled_from(NUMBERS),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(documents)
def test_the_plain_spelling_of_a_request_says_the_same(value: Any) -> None:
    """Texts of numbers stay texts."""
    numbers = ",".join(NUMBERS)
    body = f'{{"value":{json.dumps(value)},"numbers":[{numbers}]}}'.encode()
    said = plain.of(body)
    assert json.loads(said.text) == json.loads(body)
    assert said.text.endswith(b'"numbers":[1,0,1000,[1,2.5,10,1e-09],{"a":0},12345678901234567890123,0.1,1e+20]}')


TWICE = {
    "tools": '"tools":[{"type":"web_search_20250305","name":"a","max_uses":1,"max_uses":9}]',
    "escaped": r'"tools":[{"type":"web_search_20250305","name":"a","max_uses":1,"max\u005fuses":9}]',
    "cache_control": '"system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"1h","ttl":"5m"}}]',
    "messages": '"messages":[{"role":"user","content":"a","content":"b"}]',
    "source": '"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"a","url":"b"}}]}]',
    "unknown": '"messages":[{"role":"user","content":[{"type":"odd","a":{"é":1,"é":1}}]}]',
    "thinking": '"thinking":{"type":"enabled","budget_tokens":1024,"budget_tokens":2048}',
    "top": r'"stream":false,"str\u0065am":true',
}


def test_a_member_that_we_read_is_refused_where_it_is_there_twice() -> None:
    for name, twice in TWICE.items():
        body = f'{{"model":"{MODEL}","max_tokens":4096,{twice}'.encode()
        body += b"}" if b'"messages"' in body else b',"messages":[{"role":"user","content":"x"}]}'
        with pytest.raises(GatewayError, match="twice"):
            plain.of(body)
        assert name


def test_names_that_differ_beyond_ascii_only_are_two() -> None:
    plain.of('{"messages":[{"role":"user","content":[{"type":"odd","é":1,"ü":1}]}],"metadata":{"é":1,"ü":1}}'.encode())


def test_a_request_goes_out_as_it_was_written(web, upstream, alice) -> None:
    upstream.answer = whole(400, b"{}")
    body = json.dumps(ask([{"type": "document", "source": {"type": "file", "file_id": "file_1"}}])).encode()
    for spelled in (body, body.replace(b"file_id", rb"file\u005fid"), body.replace(b": 64", b":\t64e0")):
        assert post(web, alice.key, spelled).status_code == 400
        assert upstream.last.body == spelled
    twice = body[:-1] + b',"tools":[{"name":"a","name":"b","input_schema":{}}]}'
    assert "twice" in refused(post(web, alice.key, twice), 400, "invalid_request_error")
