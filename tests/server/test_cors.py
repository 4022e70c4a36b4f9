"""Pages of other origins call the API from a browser, where the deployment lets them; and streams aren't buffered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from messages_api.server import cors
from tests.support.bedrock_provider import streamed
from tests.support.clouds import issue_for
from tests.support.fake_provider import Upstream, pieces, whole
from tests.support.gateway import CLIENT, Caller, Web, ask, credentials, event, events, issue, message, talk
from tests.support.openai_provider import ask_gpt, chunks, issue_openai

APP = "https://app.example"
OTHER = "https://evil.example"
PREFIXES = ["", "/anthropic", "/pydanticai/anthropic", "/pydanticai"]
ALLOWED, EXPOSED = "access-control-allow-origin", "access-control-expose-headers"


@pytest.fixture
def open_web(served: None, start_web: Callable[..., Web]) -> Web:
    return start_web(cors_origins=f"{APP},http://localhost:5173", max_body_bytes=4096)


def options(web: Web, path: str, origin: str = APP, headers: str = "authorization,content-type") -> httpx.Response:
    asked = {"origin": origin, "access-control-request-method": "POST"}
    if headers:
        asked["access-control-request-headers"] = headers
    return CLIENT.options(web.url + path, headers=asked)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/models", "/v1/nothing"])
def test_a_preflight_is_answered_without_a_credential(open_web: Web, prefix: str, path: str) -> None:
    wanted = "authorization, x-api-key,anthropic-version,x-stainless-retry-count"
    answer = options(open_web, prefix + path, headers=wanted)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers[ALLOWED] == APP
    assert answer.headers["access-control-allow-headers"] == wanted
    assert {"GET", "POST", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    assert answer.headers["vary"].startswith("Origin, Access-Control-Request-")
    assert "access-control-allow-credentials" not in answer.headers


async def test_a_preflight_does_not_reach_the_api() -> None:
    async def api(scope: Any, receive: Any, send: Any) -> None:
        pytest.fail("it did")

    said: list[Any] = []

    async def send(part: Any) -> None:
        said.append(part)

    asked = [(b"origin", APP.encode()), (b"access-control-request-method", b"POST")]
    scope = {"type": "http", "method": "OPTIONS", "path": "/v1/messages", "headers": asked}
    await cors.allowing({APP}, api)(scope, None, send)  # type: ignore[arg-type]
    assert (said[0]["status"], dict(said[0]["headers"])[ALLOWED.encode()]) == (204, APP.encode())


def test_any_origin_may_be_allowed(served: None, start_web: Callable[..., Web]) -> None:
    answer = options(start_web(cors_origins="*"), "/v1/messages", origin="null", headers="")
    assert (answer.status_code, answer.headers[ALLOWED]) == (204, "*")
    assert "access-control-allow-headers" not in answer.headers


def test_what_the_server_refuses_itself_may_be_read(open_web: Web) -> None:
    head = f"POST /v1/messages?beta=true HTTP/1.1\r\nhost: gateway\r\norigin: {APP}\r\n" + "x-a: b\r\n" * 1100
    status, headers, _ = talk(open_web, head.encode())
    assert (status, headers[ALLOWED], headers["vary"]) == (431, APP, "Origin")


@pytest.mark.parametrize("headers", ["x a", "x-a;b", "a,,b", "a" * 9000, "é"])
def test_headers_that_are_none_are_not_echoed(open_web: Web, headers: str) -> None:
    asked = {"origin": APP, "access-control-request-method": "POST", "access-control-request-headers": headers}
    given = [(name.encode(), value.encode()) for name, value in asked.items()]
    answer = CLIENT.options(open_web.url + "/v1/messages", headers=given)
    assert answer.status_code == 204
    assert "access-control-allow-headers" not in answer.headers


@pytest.mark.parametrize("origin", [OTHER, "null", APP + ":8443", APP + ".evil.example", APP.upper(), ""])
def test_another_origin_is_allowed_nothing(open_web: Web, origin: str) -> None:
    for answer in (
        options(open_web, "/v1/messages", origin=origin),
        CLIENT.post(open_web.url + "/v1/messages", json=ask(), headers={"origin": origin}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    "path", ["/", "/docs/", "/docs/openapi.json", "/admin/login/", "/healthz", "/v2/messages", "/v1x"]
)
def test_pages_and_other_paths_are_not_for_other_pages(open_web: Web, path: str) -> None:
    for answer in (options(open_web, path), CLIENT.get(open_web.url + path, headers={"origin": APP})):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_may_be_read_with_the_headers_that_clients_act_on(
    open_web: Web, served: None, upstream: Upstream, stream: bool
) -> None:
    alice = issue(upstream)
    given = (("request-id", "req_1"), ("vary", "Accept-Encoding"), (ALLOWED, "*"), ("anthropic-new", "1"))
    upstream.answer = pieces(200, events("Hi"), *given) if stream else whole(200, message(), *given)
    headers = credentials(alice.key) | {"origin": APP}
    answer = CLIENT.post(open_web.url + "/v1/messages", json=ask(stream=stream), headers=headers)
    assert answer.status_code == 200
    assert answer.headers.get_list(ALLOWED) == [APP]
    assert {"request-id", "anthropic-new", "x-bf-request-id", "x-bf-model"} <= set(answer.headers[EXPOSED].split(", "))
    assert answer.headers["vary"] == "Accept-Encoding, Origin"


def trouble(web: Web, key: str, kind: str) -> httpx.Response:
    headers = {"origin": APP} | (credentials(key) if key else {})
    match kind:
        case "413":
            return CLIENT.post(web.url + "/v1/messages", content=b"x" * 5000, headers=headers)
        case "405":
            return CLIENT.put(web.url + "/v1/messages", headers=headers)
        case "404":
            return CLIENT.get(web.url + "/v1/nothing", headers=headers)
    return CLIENT.post(web.url + "/v1/messages", json={}, headers=headers)


@pytest.mark.parametrize("kind", ["400", "401", "404", "405", "413"])
def test_an_error_of_any_layer_may_be_read(open_web: Web, served: None, upstream: Upstream, kind: str) -> None:
    answer = trouble(open_web, "" if kind == "401" else issue(upstream).key, kind)
    assert answer.status_code == int(kind)
    assert answer.headers[ALLOWED] == APP
    assert {"request-id", "x-should-retry", "x-bf-request-id"} <= set(answer.headers[EXPOSED].split(", "))


def test_what_a_provider_refuses_may_be_read(open_web: Web, served: None, upstream: Upstream) -> None:
    alice = issue(upstream)
    upstream.answer = whole(400, b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}')
    answer = CLIENT.post(open_web.url + "/v1/messages", json=ask(), headers=credentials(alice.key) | {"origin": APP})
    assert (answer.status_code, answer.headers[ALLOWED]) == (400, APP)


def test_nothing_is_allowed_by_default(web: Web, alice: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(200, message(), (ALLOWED, "*"))
    assert options(web, "/v1/messages").status_code == 405
    answer = CLIENT.post(web.url + "/v1/messages", json=ask(), headers=credentials(alice.key) | {"origin": APP})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control-") or name == "vary"]


# Streams


def is_unbuffered(answer: httpx.Response, cache_control: str = "no-cache") -> None:
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers.get_list("x-accel-buffering") == ["no"]
    assert answer.headers.get_list("cache-control") == [cache_control]


def streamed_from(web: Web, caller: Caller, body: dict[str, Any]) -> httpx.Response:
    return CLIENT.post(web.url + "/v1/messages", content=json.dumps(body).encode(), headers=credentials(caller.key))


@pytest.mark.parametrize("given", [(), (("x-accel-buffering", "yes"),)], ids=["nothing", "something else"])
def test_a_stream_is_not_to_be_buffered_or_cached(web: Web, alice: Caller, upstream: Upstream, given: Any) -> None:
    upstream.answer = pieces(200, events("Hi"), ("content-type", "text/event-stream"), *given)
    is_unbuffered(streamed_from(web, alice, ask(stream=True)))


def test_what_a_provider_says_of_caching_stays(web: Web, alice: Caller, upstream: Upstream) -> None:
    said = ("cache-control", "no-store, no-transform")
    upstream.answer = pieces(200, events("Hi"), ("content-type", "text/event-stream"), said)
    is_unbuffered(streamed_from(web, alice, ask(stream=True)), said[1])
    upstream.answer = whole(200, message())
    answer = streamed_from(web, alice, ask())
    assert "x-accel-buffering" not in answer.headers
    assert "cache-control" not in answer.headers


@pytest.mark.parametrize("status", [200, 529])
def test_an_error_in_a_stream_is_not_buffered_either(
    web_once: Web, alice: Caller, upstream: Upstream, status: int
) -> None:
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    upstream.answer = pieces(status, [error], ("content-type", "text/event-stream"))
    answer = streamed_from(web_once, alice, ask(stream=True))
    is_unbuffered(answer)
    assert b"overloaded_error" in answer.content


def test_a_translated_stream_is_not_buffered_either(web: Web, served: None, upstream: Upstream) -> None:
    alice = issue_openai(upstream)
    upstream.answer = pieces(200, chunks("Hi"))
    is_unbuffered(streamed_from(web, alice, ask_gpt(stream=True)))


def test_amazons_stream_is_not_buffered_either(web: Web, served: None, upstream: Upstream) -> None:
    alice = issue_for("bedrock", "ABSK-bedrock-api-key-0123456789", upstream.url, region="us-east-1")
    upstream.answer = streamed(events("Hi"))
    is_unbuffered(streamed_from(web, alice, ask(model="anthropic.claude-haiku-4-5", stream=True)))


def test_echos_stream_is_not_buffered_either(web: Web, echo_alice: Caller) -> None:
    is_unbuffered(streamed_from(web, echo_alice, ask(stream=True)))
