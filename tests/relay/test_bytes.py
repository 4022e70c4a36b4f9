"""What arrives is what was sent, in both directions, and the ledger has what it used."""

from __future__ import annotations

import gzip
import json
import random

import httpx
import pytest

from tests.support.fake_provider import Seen, cut, pieces, whole
from tests.support.gateway import CLIENT, PROVIDER_SECRET, ask, events, message, post, refused, row, rows
from tests.support.recordings import Recording, is_free_refusal, needs_recordings, recordings, used

# As three generations of Anthropic's SDK send a call: credentials, version and path.
GENERATIONS = (
    (lambda key: {"x-api-key": key, "anthropic-version": "2023-06-01"}, "/v1/messages"),
    (lambda key: {"x-api-key": key, "anthropic-version": "2023-06-01"}, "/v1/messages?beta=true"),
    (lambda key: {"authorization": f"Bearer {key}", "anthropic-version": "2026-10-21"}, "/v1/messages"),
    (
        lambda key: {"authorization": f"Bearer {key}", "x-api-key": key, "anthropic-version": "2023-06-01"},
        "/anthropic/v1/messages?beta=true",
    ),
)

# What describes the upstream account or one connection is not the caller's.
NOT_RELAYED = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "server",
    "alt-svc",
    "strict-transport-security",
    "set-cookie",
    "anthropic-organization-id",
    "anthropic-workspace-id",
}
# The source of the recordings had unpacked these.
NOT_PLAYED = {"content-encoding", "transfer-encoding", "content-length", "connection"}


def play(recording, source):
    headers = [(name, value) for name, value in recording.headers.items() if name not in NOT_PLAYED]
    if recording.streams or source.random() < 0.5:
        return pieces(recording.status, cut(recording.body, source), *headers)
    return whole(recording.status, recording.body, *headers)


def expected_headers(recording):
    return {
        name: value
        for name, value in recording.headers.items()
        if name not in NOT_RELAYED and not name.startswith("anthropic-ratelimit-")
    }


def send(web, key, recording, generation):
    credentials, path = generation
    extra = {name: value for name, value in recording.request_headers.items() if name.startswith("anthropic-b")}
    sent = credentials(key) | extra | {"content-type": "application/json", "anthropic-foo": "bar"}
    body = recording.request_body
    with CLIENT.stream("POST", web.url + path, content=body, headers=sent) as answer:
        got = b"".join(answer.iter_raw())
    return sent, body, answer, got


def check_request(seen: Seen, sent, body, path):
    assert seen.method == "POST"
    assert seen.target == path.removeprefix("/anthropic")
    assert seen.body == body
    assert seen.values("x-api-key") == [PROVIDER_SECRET]
    assert seen.values("authorization") == []
    for name, value in sent.items():
        if name.startswith("anthropic-") or name == "content-type":
            assert seen.values(name) == [value]


@pytest.mark.wire(3)
@pytest.mark.wire(5)
@pytest.mark.wire(6)
@pytest.mark.wire(11)
@needs_recordings
@pytest.mark.parametrize("generation", range(len(GENERATIONS)))
def test_it_relays_every_recording_byte_for_byte_and_counts_what_it_used(web_once, upstream, alice, generation):
    source = random.Random(generation)
    chosen: list[Recording] = recordings()[generation :: len(GENERATIONS)]
    asked: dict[str, Recording] = {}
    for number, recording in enumerate(chosen):
        upstream.answer = play(recording, source)
        sent, body, answer, got = send(web_once, alice.key, recording, GENERATIONS[generation])
        asked[answer.headers["x-bf-request-id"].removeprefix("req_bf_")] = recording
        assert got == recording.body, recording.name
        assert answer.status_code == recording.status
        assert expected_headers(recording).items() <= dict(answer.headers).items(), recording.name
        assert not any(name.startswith("anthropic-ratelimit") for name in answer.headers)
        assert "anthropic-organization-id" not in answer.headers
        assert len(upstream.seen) == number + 1
        check_request(upstream.last, sent, body, GENERATIONS[generation][1])
    for entry in rows(len(chosen)):
        recording = asked[entry.id.hex]
        counted = {name: getattr(entry, name) for name in used(recording)}
        assert counted == used(recording), recording.name
        assert entry.requested_model == recording.request["model"]
        assert entry.stream == bool(recording.request.get("stream"))
        assert entry.http_status == recording.status
        assert entry.status == ("completed" if recording.status == 200 else "refused_by_provider"), recording.name
        assert entry.provider_request_id == recording.headers.get("request-id", "")
        assert not entry.estimated, recording.name
        free = is_free_refusal(recording)
        assert (entry.price_flag == "refusal_not_billed") == free, recording.name
        assert (entry.cost > 0) == (recording.status == 200 and sum(used(recording).values()) > 0 and not free)


@pytest.mark.wire(6)
@needs_recordings
def test_it_relays_streams_that_come_a_byte_at_a_time(web, upstream, alice):
    chosen = sorted((recording for recording in recordings() if recording.streams), key=lambda one: len(one.body))[:12]
    for recording in chosen:
        upstream.answer = pieces(200, [recording.body[at : at + 1] for at in range(len(recording.body))])
        _, _, _, got = send(web, alice.key, recording, GENERATIONS[2])
        assert got == recording.body
    rows(len(chosen))


@pytest.mark.wire(6)
def test_it_relays_a_stream_that_is_cut_inside_every_character(web, upstream, alice):
    body = b"".join(events("Grüße", "日本語", "👋🏽", "e\u0301"))
    for at in [at for at, byte in enumerate(body) if byte & 0xC0 == 0x80]:
        upstream.answer = pieces(200, [body[:at], body[at:]])
        answer = post(web, alice.key, ask(stream=True))
    assert answer.content == body
    assert {entry.output_tokens for entry in rows(len(upstream.seen))} == {7}


@pytest.mark.wire(2)
@pytest.mark.parametrize("prefix", ["", "/anthropic", "/pydanticai/anthropic", "/pydanticai"])
@pytest.mark.parametrize("query", ["", "?beta=true", "?beta=true&x=%2F%20y&x=2", "?"])
def test_it_answers_under_every_prefix_and_passes_the_query_on(web, upstream, alice, prefix, query):
    upstream.answer = whole(200, message())
    answer = post(web, alice.key, path=f"{prefix}/v1/messages{query}")
    assert answer.status_code == 200
    assert upstream.last.target == "/v1/messages" + query.rstrip("?")


@pytest.mark.wire(4)
def test_it_passes_every_header_on_that_it_does_not_know(web, upstream, alice):
    upstream.answer = whole(200, message())
    sent = [
        ("x-api-key", alice.key),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "one-2026-01-01,two-2026-02-02"),
        ("anthropic-beta", "three-2026-03-03"),
        ("anthropic-foo", "caf\xe9".encode("latin-1")),
        ("x-stainless-lang", "python"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("user-agent", "claude-cli/2.1.181 (external, cli)"),
        ("x-bf-vk", alice.key),
        ("cookie", "a=b"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
    ]
    CLIENT.post(web.url + "/v1/messages", json=ask(), headers=sent)
    seen = upstream.last
    assert seen.values("anthropic-beta") == ["one-2026-01-01,two-2026-02-02", "three-2026-03-03"]
    assert seen.values("anthropic-version") == ["2023-06-01"]
    assert seen.values("user-agent") == ["claude-cli/2.1.181 (external, cli)"]
    assert seen.values("x-stainless-lang") == ["python"]
    assert seen.values("traceparent") == ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]
    for name in ("x-bf-vk", "cookie", "x-hop", "te", "authorization", "expect"):
        assert seen.values(name) == []
    assert seen.values("host") == [upstream.url.removeprefix("http://")]
    assert alice.key.encode() not in seen.head + seen.body


def test_it_takes_on_no_header_by_itself(web, upstream, alice):
    upstream.answer = whole(200, message())
    body = json.dumps(ask()).encode()
    request = httpx.Request("POST", web.url + "/v1/messages", content=body, headers={"x-api-key": alice.key})
    del request.headers["host"]
    request.headers["host"] = "gateway.example"
    with httpx.Client() as client:
        assert client.send(request).status_code == 200
    assert {name for name, _ in upstream.last.headers} <= {
        b"host",
        b"x-api-key",
        b"accept-encoding",
        b"content-length",
        b"connection",
    }
    assert upstream.last.values("accept-encoding") == ["identity"]


@pytest.mark.wire(4)
def test_it_relays_members_of_the_body_that_it_does_not_know(web, upstream, alice):
    upstream.answer = whole(200, message())
    body = (
        b'{ "model":"claude-opus-5-5" ,"max_tokens":64,"new_member":{"z":1,"a":[1.0,1e5,-0]},"speed":"fast",'
        b'"metadata":{"user_id":"\\u00fc\\/"},\r\n"messages":[{"role":"user","content":"Hi","content_2":"\xf0\x9f\x91\x8b"}]}'
    )
    answer = post(web, alice.key, body)
    assert answer.status_code == 200
    assert upstream.last.body == body


@pytest.mark.wire(11)
@pytest.mark.parametrize("status", [400, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("streamed", [False, True])
def test_it_relays_the_providers_errors_untouched(web_once, upstream, alice, status, streamed):
    body = b'{"type":"error",  "error":{"type":"some_error","message":"prompt is too long: \xc3\xbc"}}\n'
    headers = (("request-id", "req_9"), ("x-should-retry", "true"), ("retry-after", "7"), ("cf-ray", "1-AMS"))
    upstream.answer = whole(status, body, *headers)
    answer = post(web_once, alice.key, ask(stream=streamed))
    assert (answer.status_code, answer.content) == (status, body)
    assert set(headers) <= set(answer.headers.items())
    entry = row()
    assert (entry.status, entry.http_status) == ("refused_by_provider", status)
    assert entry.cost == 0
    assert entry.error_type == "some_error"
    assert entry.provider_request_id == "req_9"


@pytest.mark.wire(11)
@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refusal_of_our_own_key_becomes_a_503_of_ours(web, upstream, alice, status):
    secret = b"the account of a customer"
    upstream.answer = whole(status, b'{"type":"error","error":{"type":"billing_error","message":"%b"}}' % secret)
    answer = post(web, alice.key)
    refused(answer, 503, "api_error")
    assert secret not in answer.content
    assert (row().status, row().http_status) == ("refused_by_provider", status)
    assert row().cost == 0


def test_a_spent_account_becomes_a_503_of_ours(web, upstream, alice):
    text = b"You have reached your specified API usage limits. You will regain access on 2026-12-01."
    upstream.answer = whole(400, b'{"type":"error","error":{"type":"invalid_request_error","message":"%b"}}' % text)
    refused(post(web, alice.key), 503, "api_error")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_it_follows_no_redirect(web, upstream, alice, status):
    upstream.answer = whole(status, b"", ("location", upstream.url + "/elsewhere"))
    refused(post(web, alice.key), 502, "api_error")
    assert len(upstream.seen) == 1


@pytest.mark.wire(20)
def test_it_unpacks_an_answer_that_is_compressed_all_the_same(web, upstream, alice):
    upstream.answer = whole(200, gzip.compress(message("Hi" * 5000)), ("content-encoding", "gzip"))
    answer = post(web, alice.key)
    assert answer.content == message("Hi" * 5000)
    assert "content-encoding" not in answer.headers
    assert row().output_tokens == 7


@pytest.mark.wire(20)
def test_it_unpacks_a_stream_that_is_compressed_all_the_same(web, upstream, alice):
    body = b"".join(events("Grüße", "👋"))
    packed = gzip.compress(body)
    upstream.answer = pieces(200, cut(packed, random.Random(1), 9), ("content-encoding", "gzip"))
    answer = post(web, alice.key, ask(stream=True))
    assert answer.content == body
    assert row().output_tokens == 7


def test_it_relays_a_success_that_it_cannot_read_and_estimates_it(web, upstream, alice):
    upstream.answer = whole(200, b"<html>no API</html>", ("content-type", "text/html"))
    answer = post(web, alice.key)
    assert (answer.status_code, answer.content) == (200, b"<html>no API</html>")
    # In a browser, another site's page would run in the gateway's name.
    assert answer.headers["content-type"] == "application/octet-stream"
    entry = row()
    assert entry.estimated
    assert entry.cost > 0


@pytest.mark.wire(14)
def test_a_retry_after_on_a_success_arrives_and_means_nothing(web, upstream, alice):
    upstream.answer = whole(200, message(), ("retry-after", "59"))
    answer = post(web, alice.key)
    assert (answer.status_code, answer.headers["retry-after"]) == (200, "59")


def test_it_relays_a_request_of_thirty_megabytes(web, upstream, alice):
    upstream.answer = whole(200, message())
    body = json.dumps(ask("x" * 30_000_000)).encode()
    answer = post(web, alice.key, body)
    assert answer.status_code == 200
    assert upstream.last.body == body


def test_it_relays_a_chunked_request(web, upstream, alice):
    upstream.answer = whole(200, message())
    body = json.dumps(ask("Grüße " * 1000)).encode()
    answer = CLIENT.post(
        web.url + "/v1/messages", content=iter([body[:9], body[9:4000], body[4000:]]), headers={"x-api-key": alice.key}
    )
    assert answer.status_code == 200
    assert upstream.last.body == body
