"""Bad input is the caller's: an Anthropic-shaped 4xx that names the trouble, nothing to the provider, never a 500."""

from __future__ import annotations

import json
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, credentials, message, post, refused, talk

GOOD = json.dumps(ask("Grüße"), ensure_ascii=False).encode()


def with_member(text):
    return GOOD[:-1] + b", " + (text if isinstance(text, bytes) else text.encode()) + b"}"


BAD_BODIES = {
    "empty": b"",
    "blank": b" \n",
    "a word": b"hello",
    "truncated": GOOD[:-1],
    "cut in a string": GOOD[:20],
    "cut in a character": GOOD[: GOOD.index("ü".encode()) + 1],
    "two documents": GOOD + GOOD,
    "rubbish after it": GOOD + b"x",
    "a null byte after it": GOOD + b"\x00",
    "an array": b"[" + GOOD + b"]",
    "a string": b'"model"',
    "a number": b"7",
    "null": b"null",
    "single quotes": GOOD.replace(b'"', b"'"),
    "a trailing comma": GOOD[:-1] + b",}",
    "a comment": b"/* hi */" + GOOD,
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "Latin-1": GOOD.decode().encode("latin-1"),
    "invalid UTF-8 in a member that we read": GOOD.replace(b"claude", b"cl\xffude"),
    "invalid UTF-8 in a member that we don't read": with_member(b'"x": "\xff"'),
    "invalid UTF-8 in a name": with_member(b'"\xff": 1'),
    "invalid UTF-8 deep down": with_member(b'"x": [{"y": ["\xc3("]}]'),
    "an overlong character": with_member(b'"x": "\xc0\xaf"'),
    "a surrogate in UTF-8": with_member(b'"x": "\xed\xa0\x80"'),
    "beyond Unicode": with_member(b'"x": "\xf4\x90\x80\x80"'),
    "a raw null byte in a string": with_member(b'"x": "\x00"'),
    "a raw line break in a string": with_member(b'"x": "\n"'),
    "a raw null byte between members": with_member(b'\x00"x": 1'),
    "NaN": with_member('"temperature": NaN'),
    "Infinity": with_member('"temperature": Infinity'),
    "-Infinity": with_member('"x": {"y": [-Infinity]}'),
    "a leading zero": with_member('"x": 01'),
    "a lone point": with_member('"x": 1.'),
    "a plus": with_member('"x": +1'),
    "hex": with_member('"x": 0x10'),
    "an unknown escape": with_member(r'"x": "\q"'),
    "half an escape": with_member(r'"x": "\u12"'),
    "nested too deep in arrays": with_member('"x": ' + "[" * 100_000 + "]" * 100_000),
    "nested too deep in objects": with_member('"x": ' + '{"a":' * 100_000 + "1" + "}" * 100_000),
    "nested and never closed": b'{"model":' * 100_000,
    "only brackets": b"[" * 100_000,
    "nested deep beside a huge number": with_member('"n": 1' + "0" * 30 + ', "x": ' + "[" * 50_000 + "]" * 50_000),
    "model twice": with_member('"model": "claude-haiku-5-5"'),
    "model twice, once in escapes": with_member(r'"mo\u0064el": "claude-haiku-5-5"'),
    "stream twice": with_member('"stream": false, "stream": true'),
    "max_tokens twice beside a huge number": with_member('"n": 1' + "0" * 30 + ', "max_tokens": 5'),
    "a member that we don't read twice": with_member('"x": 1, "x": 2'),
}

BAD_MEMBERS = [
    {"model": None},
    {"model": 7},
    {"model": ""},
    {"model": ["claude"]},
    {"model": "claude opus"},
    {"model": "claude\nopus"},
    {"model": "claude\x00"},
    {"model": "claude\ud800"},
    {"model": "x" * 300},
    {"max_tokens": None},
    {"max_tokens": "64"},
    {"max_tokens": -1},
    {"max_tokens": 1.5},
    {"max_tokens": True},
    {"max_tokens": 10**8},
    {"max_tokens": 10**30},
    {"max_tokens": []},
    {"messages": None},
    {"messages": "Hi"},
    {"messages": {}},
    {"messages": 7},
    {"stream": "true"},
    {"stream": 1},
    {"stream": []},
    {"system": 7},
    {"system": {}},
    {"tools": {}},
    {"tools": "all"},
    {"metadata": []},
    {"thinking": "yes"},
    {"tool_choice": "auto"},
]


@pytest.fixture(autouse=True)
def answering(upstream):
    upstream.answer = whole(200, message())


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_body_that_is_no_strict_json_is_a_400(web, alice, upstream, body):
    answer = (
        post(web, alice.key, body) if body else CLIENT.post(web.url + "/v1/messages", headers=credentials(alice.key))
    )
    refused(answer, 400, "invalid_request_error")
    assert not upstream.seen


@pytest.mark.parametrize("members", BAD_MEMBERS, ids=lambda members: json.dumps(members)[:40])
def test_a_member_of_the_wrong_kind_is_a_400_that_names_it(web, alice, upstream, members):
    body = json.dumps(ask() | members).encode()
    text = refused(post(web, alice.key, body), 400, "invalid_request_error")
    if "\\ud800" not in body.decode():
        assert text.startswith(next(iter(members)))
    assert not upstream.seen


@pytest.mark.parametrize("name", ["model", "max_tokens", "messages"])
def test_a_missing_member_is_a_400_in_anthropics_words(web, alice, upstream, name):
    body = json.dumps({key: value for key, value in ask().items() if key != name}).encode()
    assert refused(post(web, alice.key, body), 400, "invalid_request_error") == f"{name}: Field required"
    assert not upstream.seen


LEGAL = {
    "no tokens at all": ask(max_tokens=0),
    "a huge number": ask(x=10**40),
    "a huge negative number": ask(x=[-(10**40)]),
    "a long fraction": b"".join([GOOD[:-1], b', "x": 0.', b"1" * 400, b"}"]),
    "a null byte as an escape": ask("\x00"),
    "a pair of surrogates as escapes": json.dumps(ask("\U0001f44b")).encode(),
    "empty names": ask() | {"": 1},
    "the same name on different levels": ask(metadata={"model": "x"}),
    "deep, but not too deep": ask(x=json.loads("[" * 200 + "]" * 200)),
    "null for what may be left out": ask(stream=None, system=None, tools=None),
    "a number with an exponent": GOOD[:-1] + b', "temperature": 1E-2}',
}


@pytest.mark.parametrize("body", LEGAL.values(), ids=LEGAL.keys())
def test_odd_but_legal_json_goes_through_as_it_is(web, alice, upstream, body):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = post(web, alice.key, content)
    assert answer.status_code == 200, answer.text
    assert upstream.last.body == content


@pytest.mark.parametrize("escape", [r"\ud800", r"\udc00", r"\udc00\ud800", r"\ud800x", r"\ud800\u0041"])
def test_half_a_pair_of_surrogates_is_refused_or_relayed_but_never_a_500(web, alice, upstream, escape):
    body = GOOD.replace("Grüße".encode(), escape.encode())
    answer = post(web, alice.key, body)
    if answer.status_code == 200:
        assert upstream.last.body == body
    else:
        refused(answer, 400, "invalid_request_error")
        assert not upstream.seen


def test_forty_megabytes_are_a_413(web, alice, upstream):
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {alice.key}\r\nContent-Length: {40 << 20}\r\n\r\n"
    status, headers, body = talk(web, head.encode())
    assert (status, json.loads(body)["error"]["type"]) == (413, "request_too_large")
    assert headers["x-should-retry"] == "false"
    assert not upstream.seen


def test_forty_megabytes_in_chunks_of_unknown_length_are_a_413(web, alice, upstream):
    def parts():
        for _ in range(40):
            yield b" " * (1 << 20)

    answer = CLIENT.post(web.url + "/v1/messages", content=parts(), headers=credentials(alice.key))
    refused(answer, 413, "request_too_large")
    assert not upstream.seen


def test_a_compressed_body_is_refused_with_anthropics_code(web, alice, upstream):
    answer = CLIENT.post(
        web.url + "/v1/messages", content=b"\x1f\x8b", headers=credentials(alice.key) | {"content-encoding": "gzip"}
    )
    refused_code = answer.json()["error"]["details"]["error_code"]
    assert (answer.status_code, refused_code) == (400, "request_body_encoding_unsupported")
    assert not upstream.seen


RAW = {
    "a header with a line break": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-a: 1\n2\r\n",
    "a header with a carriage return": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-a: 1\r2\r\n",
    "a header with a null byte": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-a: 1\x002\r\n",
    "a folded header": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-a: 1\r\n 2\r\n",
    "a header without a name": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n: 1\r\n",
    "a header with a space in its name": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx a: 1\r\n",
    "no HTTP": b"hello\r\n",
    "a length that is no number": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n",
    "a negative length": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n",
    "a length and chunks": (
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n"
    ),
    "two lengths": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n",
}


@pytest.mark.parametrize("head", RAW.values(), ids=RAW.keys())
def test_http_that_does_not_parse_is_a_400(web, alice, upstream, head):
    about = b"x-api-key: " + alice.key.encode()
    if b"ontent-Length" not in head:
        about += b"\r\nContent-Length: %d" % len(GOOD)
    status, _, body = talk(web, head + about + b"\r\n\r\n" + GOOD)
    assert status == 400
    assert b"Traceback" not in body
    assert not upstream.seen


HEADS = {
    "a tunnel": (b"CONNECT / HTTP/1.1\r\nHost: x\r\n", 405),
    "a tunnel to a host": (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n", 405),
    "no host": (b"POST /v1/messages HTTP/1.1\r\n", 400),
    "two hosts": (b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nHost: y\r\n", 400),
    "two hosts of old": (b"POST /v1/messages HTTP/1.0\r\nHost: x\r\nHost: y\r\n", 400),
    "chunks within another encoding": (
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n",
        501,
    ),
    "two encodings": (
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        501,
    ),
}


@pytest.mark.parametrize(("head", "expected"), HEADS.values(), ids=HEADS.keys())
def test_http_that_means_two_things_is_refused_once_and_the_connection_ends(web, alice, upstream, head, expected):
    body = b"" if b"Transfer-Encoding" not in head else b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    about = b"x-api-key: " + alice.key.encode()
    if not body and head.startswith(b"POST"):
        about, body = about + b"\r\nContent-Length: %d" % len(GOOD), GOOD
    before = web.log.read_text()
    with socket.create_connection(web.address, timeout=30) as link, link.makefile("rb") as said:
        link.sendall(head + about + b"\r\n\r\n" + body + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = said.read()
    assert answer.startswith(b"HTTP/1.1 %d " % expected)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "error"
    assert not upstream.seen
    assert web.log.read_text() == before


@pytest.mark.parametrize(
    "header",
    [b"x-stainless-a: \xff\xfe", b"anthropic-beta: " + b"b," * 5000, b"x-stainless-a:", b"content-type: text/plain"],
)
def test_odd_headers_do_no_harm(web, alice, upstream, header):
    about = b"x-api-key: %b\r\nContent-Length: %d\r\n%b\r\n\r\n" % (alice.key.encode(), len(GOOD), header)
    status, _, _ = talk(web, b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n" + about + GOOD)
    assert status == 200
    name, _, value = header.partition(b":")
    assert (name, value.strip()) in upstream.last.headers


@pytest.mark.parametrize("accept", ["application/binary", "text/html", "image/*;q=0.1", "nonsense", ""])
def test_any_accept_header_gets_an_answer(web, alice, accept):
    headers = credentials(alice.key) | {"accept": accept}
    assert CLIENT.post(web.url + "/v1/messages?format=html", json=ask(), headers=headers).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_refused_in_anthropics_shape(web, alice, upstream, method):
    answer = CLIENT.request(method, web.url + "/v1/messages", headers=credentials(alice.key))
    refused(answer, 405, "invalid_request_error")


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v1/nothing", "/v1/messages/x/y", "/anthropic/v1/x", "/v1/%00", "/v1/%ff%0a"]
)
def test_other_paths_are_a_404_in_anthropics_shape(web, alice, upstream, path):
    answer = CLIENT.post(web.url + path, json=ask(), headers=credentials(alice.key))
    refused(answer, 404, "not_found_error")
    assert not upstream.seen


def is_strict(body):
    """Whether Python's own reader, in a strict mode, reads it as an object with no member twice at the top."""

    def no(name):
        raise ValueError(name)

    pairs = json.loads(body.decode("utf-8"), object_pairs_hook=list, parse_constant=no)
    return isinstance(pairs, list) and len(dict(pairs)) == len(pairs)


TELLING = [b'"', b"\\", b"{", b"}", b",", b"\\u0000", b"1e9"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_body_mutated_anywhere_is_refused_or_relayed_as_it_is(web, alice, upstream, data):
    body = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        length = data.draw(st.integers(0, 6))
        new = data.draw(
            st.one_of(st.binary(max_size=6), st.sampled_from([b'"', b"\\", b"{", b"}", b",", b"\\u0000", b"1e9"]))
        )
        body[at : at + length] = new
    upstream.seen.clear()
    answer = post(web, alice.key, bytes(body) or b" ")
    if answer.status_code == 200:
        assert upstream.last.body == bytes(body)
        assert is_strict(bytes(body))
    else:
        kind = answer.json()["error"]["type"]
        assert (answer.status_code, kind) in ((400, "invalid_request_error"), (404, "not_found_error"))
        assert not upstream.seen


names = st.sampled_from(["model", "max_tokens", "messages", "stream", "system", "x"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    members=st.dictionaries(st.sampled_from(["model", "max_tokens", "messages", "stream", "system", "x"]), json_values)
)
def test_any_json_is_refused_or_relayed_as_it_is(web, alice, upstream, members):
    upstream.seen.clear()
    body = json.dumps(ask() | members).encode()
    answer = post(web, alice.key, body)
    if answer.status_code == 200:
        assert upstream.last.body == body
    else:
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert answer.status_code == 400
        assert not upstream.seen
