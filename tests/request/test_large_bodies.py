"""Large bodies that are meant to cost more than they weigh are read a bounded number of times."""

from __future__ import annotations

import json

import pytest

from messages_api.request import plain
from messages_api.request.estimates import FOR_ANY, FOR_EACH_TOOL, FOR_TOOLS
from messages_api.request.plain import MEMBERS, REUSE
from messages_api.request.schema import MessagesRequest, parse
from messages_api.server.errors import GatewayError
from tests.support.fake_provider import whole
from tests.support.gateway import MODEL, ask, message, post, refused, row

LONG = 12345678901234567890123  # of 23 digits


@pytest.fixture
def readings(monkeypatch):
    """How often a whole body was read, and how long each was."""
    found: list[int] = []
    read = plain.parsed

    def counted(parser, body, **options):
        found.append(len(body))
        return read(parser, body, **options)

    monkeypatch.setattr(plain, "parsed", counted)
    return found


def short_members(size):
    """A body of about this many bytes, with members that are as short as possible."""
    members = b",".join(b'"%x":1' % number for number in range(size // 9))
    return b'{"model":"%b","max_tokens":1,"messages":[{"role":"user","content":"x"}],%b}' % (MODEL.encode(), members)


def test_too_many_members_are_refused_before_they_are_compared(readings, monkeypatch):
    body = short_members(400_000)
    # Their names are not even listed.
    monkeypatch.setattr(plain, "set", None, raising=False)
    with pytest.raises(GatewayError, match=f"more than {MEMBERS} members"):
        parse(body)
    assert readings == [len(body)]


def test_as_many_members_as_are_allowed_are_read_once(readings):
    body = json.dumps(ask() | {f"x{number}": number for number in range(MEMBERS - 3)}).encode()
    assert parse(body) == MessagesRequest(MODEL, 64, False)
    assert len(readings) == 1
    with pytest.raises(GatewayError, match=f"more than {MEMBERS} members"):
        parse(body[:-1] + b',"one":"more"}')


def test_a_member_twice_is_found_among_as_many_as_are_allowed():
    body = json.dumps(ask() | {f"x{number}": number for number in range(MEMBERS - 4)}).encode()
    with pytest.raises(GatewayError, match="x7: the request body has this member twice"):
        parse(body[:-1] + b',"x7":7}')


def test_members_of_a_member_are_read_once_however_many(readings):
    inner = {f"{number:x}": 1 for number in range(40_000)}
    tool = {"name": "a", "input_schema": {"type": "object", "properties": inner}}
    body = json.dumps(ask(metadata=inner, tools=[tool])).encode()
    assert parse(body) == MessagesRequest(MODEL, 64, False, added=FOR_ANY + FOR_TOOLS + FOR_EACH_TOOL)
    assert len(readings) == 1


@pytest.mark.parametrize("size", [8_000_000, 1000])
@pytest.mark.parametrize("count", [1, 20_000])
def test_integers_beyond_64_bits_are_read_twice_at_most(readings, size, count):
    body = json.dumps(ask("x" * size, some_id=[LONG] * count, other=-LONG)).encode()
    assert parse(body) == MessagesRequest(MODEL, 64, False)
    assert len(readings) == 2
    assert readings[0] == len(body)


def test_an_invalid_number_is_refused_after_two_readings_at_most(readings):
    for number in (b"1" * 30 + b".", b"0" * 30, b"1" * 30 + b"e", b"-", b"1" * 400 + b"e999"):
        body = json.dumps(ask("x" * 1000)).encode()[:-1] + b',"other":' + number + b"}"
        with pytest.raises(GatewayError):
            parse(body)
    assert len(readings) <= 2 * 5


def test_no_parser_keeps_the_memory_of_a_large_body():
    parser = plain._parser
    parse(json.dumps(ask("x" * 2 * REUSE)).encode())
    assert plain._parser is parser


def test_eight_megabytes_with_a_long_number_are_relayed_as_they_are(web, upstream, alice):
    body = json.dumps(ask("x" * 8_000_000, some_id=LONG)).encode()
    upstream.answer = whole(200, message())
    answer = post(web, alice.key, body)
    assert answer.status_code == 200
    assert upstream.last.body == body
    assert row().status == "completed"


def test_four_hundred_kilobytes_of_short_members_are_a_400(web, upstream, alice):
    assert "members" in refused(post(web, alice.key, short_members(400_000)), 400, "invalid_request_error")
    assert upstream.seen == []
