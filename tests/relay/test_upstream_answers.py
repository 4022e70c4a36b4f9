"""What either HTTP client takes for an answer, and what for an error, over real sockets."""

from __future__ import annotations

import gzip

import pytest

from messages_api.upstream.client import UpstreamClient, UpstreamError, plain
from tests.support.client_kinds import CHUNKED, LENGTH_5, Caller, in_turn, lines, rest
from tests.support.client_kinds import caller as caller
from tests.support.client_kinds import lean as lean
from tests.support.fake_provider import LAST_CHUNK, End, Step, Upstream, chunk, pieces, whole

# Answers that are whole, and their bodies.
GOOD: dict[str, tuple[list[Step], bytes]] = {
    "with its length": ([LENGTH_5, b"hello"], b"hello"),
    "in pieces of one byte": ([bytes([one]) for one in LENGTH_5 + b"hello"], b"hello"),
    "chunked, in pieces of one byte": (
        [bytes([one]) for one in CHUNKED + chunk(b"hel") + chunk(b"lo") + LAST_CHUNK],
        b"hello",
    ),
    "with an extension of a chunk": ([CHUNKED + b'5;name="value"\r\nhello\r\n' + LAST_CHUNK], b"hello"),
    "with a trailer": ([CHUNKED + chunk(b"hello") + b"0\r\nx-sum: 1\r\n\r\n"], b"hello"),
    "up to the end of the connection": ([lines(b"connection: close"), b"hel", 0.01, b"lo", End.CLOSE], b"hello"),
    "of HTTP/1.0": ([lines(status=b"HTTP/1.0 200 OK") + b"hello", End.CLOSE], b"hello"),
    "after 100": ([b"HTTP/1.1 100 Continue\r\n\r\n", 0.01, LENGTH_5 + b"hello"], b"hello"),
    "after 103": (
        [lines(b"link: </x>", b"content-length: 7", status=b"HTTP/1.1 103 Early Hints") + LENGTH_5 + b"hello"],
        b"hello",
    ),
    "empty": ([lines(b"content-length: 0")], b""),
    "without a reason": ([lines(b"content-length: 5", status=b"HTTP/1.1 200 ") + b"hello"], b"hello"),
    "that offers another protocol": (
        [lines(b"connection: upgrade", b"upgrade: h2c", b"content-length: 5") + b"hello"],
        b"hello",
    ),
}
# Answers that aren't HTTP, or end too soon; none of them may pass for whole.
BAD: dict[str, list[Step]] = {
    "a bad status line": [b"HELLO\r\n\r\n", End.CLOSE],
    "a status that is no number": [lines(b"content-length: 0", status=b"HTTP/1.1 OK OK"), End.CLOSE],
    "another protocol": [lines(b"connection: upgrade", b"upgrade: websocket", status=b"HTTP/1.1 101 Switching"), 1.0],
    "a header without a colon": [lines(b"content-length 5") + b"hello", 1.0],
    "a header's name with a space": [lines(b"content-length : 5") + b"hello", 1.0],
    "a header with a null byte": [lines(b"x-a: a\0b", b"content-length: 5") + b"hello", 1.0],
    "too short": [lines(b"content-length: 9") + b"hello", End.CLOSE],
    "a length below nothing": [lines(b"content-length: -5") + b"hello", 1.0],
    "a length of a word": [lines(b"content-length: five") + b"hello", 1.0],
    "two lengths": [lines(b"content-length: 5", b"content-length: 6") + b"hello!", 1.0],
    "a length and chunks": [
        lines(b"content-length: 5", b"transfer-encoding: chunked") + chunk(b"hello") + LAST_CHUNK,
        1.0,
    ],
    "a chunk's size of letters": [CHUNKED + b"xyz\r\nhello\r\n0\r\n\r\n", 1.0],
    "a chunk's size below nothing": [CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", 1.0],
    "an endless chunk's size": [CHUNKED + b"f" * 40 + b"\r\nhello\r\n0\r\n\r\n", 1.0],
    "a chunk longer than its size": [CHUNKED + b"3\r\nhello\r\n0\r\n\r\n", 1.0],
    "chunks without an end": [CHUNKED + chunk(b"hello"), End.CLOSE],
    "a length, torn down": [lines(b"content-length: 9") + b"hello", End.RESET],
    "no length, torn down": [lines(b"connection: close") + b"hello", End.RESET],
    "no answer": [End.CLOSE],
    "no answer, torn down": [End.RESET],
    "half a head": [b"HTTP/1.1 200 OK\r\ncontent-", End.CLOSE],
}
# What aiohttp takes in spite of all.
AIOHTTP_TAKES = {"another protocol", "a header's name with a space", "no length, torn down"}


@pytest.mark.parametrize("name", GOOD)
def test_it_reads_an_answer(caller: Caller, upstream: Upstream, name: str) -> None:
    upstream.answer, body = GOOD[name]
    got = caller.get(upstream.url)
    assert (got.status, got.body) == (200, body)


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_answer_is_an_error_and_may_have_been_billed(caller: Caller, upstream: Upstream, name: str) -> None:
    if caller.kind == "aiohttp" and name in AIOHTTP_TAKES:
        pytest.skip("aiohttp leaves this to its caller")
    upstream.answer = BAD[name]
    error = caller.fail(upstream.url)
    assert error.sent
    assert error.kind != "no_answer_in_time"
    upstream.answer = whole(200, b"next")
    assert caller.get(upstream.url).body == b"next"


@pytest.mark.parametrize(
    "answer",
    [
        [lines(b"x-long: " + b"a" * 300_000, b"content-length: 0")],
        [b"HTTP/1.1 200 OK\r\nx-endless: ", *[b"a" * 10_000] * 60],
        [lines(*[b"x-%d: %s" % (n, b"a" * 1000) for n in range(300)], b"content-length: 0")],
        [lines(*[b"x-%d: a" % n for n in range(10_000)], b"content-length: 0")],
    ],
    ids=["one line", "no end", "many long lines", "many lines"],
)
def test_a_head_without_measure_is_refused(caller: Caller, upstream: Upstream, answer: list[Step]) -> None:
    upstream.answer = answer
    assert caller.fail(upstream.url).sent


@pytest.mark.parametrize(
    "steps",
    [
        [CHUNKED + chunk(b"hello") + b"0\r\n", *[b"x-a: " + b"a" * 1000 + b"\r\n"] * 400],
        [CHUNKED + chunk(b"hello") + b"0\r\nx-endless: ", *[b"a" * 10_000] * 60],
        [CHUNKED + chunk(b"hello") + b"5;", *[b"a" * 10_000] * 60],
        [lines(b"x-early: hint", status=b"HTTP/1.1 103 Early") * 40_000],
        [b"HTTP/1.1 200 ", *[b"a" * 10_000] * 60],
    ],
    ids=["trailers", "a trailer", "an extension", "hints", "a reason"],
)
def test_what_never_ends_is_cut_off(lean: Caller, upstream: Upstream, steps: list[Step]) -> None:
    upstream.answer = [*steps, 5.0]
    assert lean.fail(upstream.url).kind == "bad_http"


def test_a_trailer_is_no_header(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = GOOD["with a trailer"][0]
    assert caller.get(upstream.url).headers == [(b"transfer-encoding", b"chunked")]


def test_headers_of_a_hint_are_not_the_answers(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = GOOD["after 103"][0]
    assert caller.get(upstream.url).headers == [(b"content-length", b"5")]


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_ends_with_its_head(caller: Caller, upstream: Upstream, status: int) -> None:
    upstream.answer = in_turn([lines(b"x-a: b", status=b"HTTP/1.1 %d Nothing" % status)], whole(200, b"next"))
    before = upstream.connections
    got = caller.get(upstream.url)
    assert (got.status, got.body) == (status, b"")
    assert caller.get(upstream.url).body == b"next"
    assert upstream.connections == before + (1 if caller.kind == "lean" else 2)  # aiohttp keeps none


# Compressed answers


@pytest.mark.parametrize("encoding", ["gzip", "GZIP"])
def test_a_compressed_answer_of_two_members_is_unpacked(caller: Caller, upstream: Upstream, encoding: str) -> None:
    packed = gzip.compress(b"hello, ") + gzip.compress(b"Alice")
    upstream.answer = pieces(200, [bytes([one]) for one in packed], ("content-encoding", encoding))
    assert caller.run(unpack(caller.client, upstream.url)) == b"hello, Alice"


@pytest.mark.parametrize("cut", [1, 9, -1], ids=["head", "body", "sum"])
def test_a_compressed_answer_that_is_cut_off_is_an_error(caller: Caller, upstream: Upstream, cut: int) -> None:
    upstream.answer = whole(200, gzip.compress(b"hello" * 100)[:cut], ("content-encoding", "gzip"))
    with pytest.raises(UpstreamError, match="broken_off"):
        caller.run(unpack(caller.client, upstream.url))


def test_an_invalid_compressed_answer_is_an_error(caller: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(200, b"hello", ("content-encoding", "gzip"))
    with pytest.raises(UpstreamError, match="bad_compression"):
        caller.run(unpack(caller.client, upstream.url))


async def unpack(client: UpstreamClient, url: str) -> bytes:
    answer = plain(await client.send("POST", url, [], b""))
    assert not [name for name, _ in answer.headers if name == b"content-encoding"]
    return (await rest(answer)).body
