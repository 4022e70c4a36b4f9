"""Which headers pass is a closed list in both directions, and a browser runs nothing that a provider sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.server import headers
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, message, post, row

# Headers that reveal where a caller is, or that are credentials for other services.
FOREIGN = {
    "cf-connecting-ip": "192.0.2.7",
    "true-client-ip": "192.0.2.7",
    "x-forwarded-for": "192.0.2.7",
    "x-real-ip": "192.0.2.7",
    "forwarded": "for=192.0.2.7",
    "via": "1.1 proxy",
    "referer": "https://intranet.example/secret",
    "origin": "https://intranet.example",
    "cookie": "session=1",
    "x-goog-api-key": "AIza-foreign",
    "api-key": "foreign",
    "x-amz-security-token": "foreign",
    "ocp-apim-subscription-key": "foreign",
    "proxy-authorization": "Basic foreign",
    "x-bf-anything": "1",
    "x-mine": "7",
}
# In whose name, and at whose expense, a credential of several workspaces or customers calls: ours is not the caller's.
CHOOSING = {
    "anthropic-workspace-id": "wrkspc_other",
    "anthropic-organization-id": "org_other",
    "anthropic-user-profile-id": "uprof_other",
}
# What clients say to Anthropic (wire.md lists them).
KNOWN = {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "a-2026-01-01",
    "anthropic-new": "1",
    "x-stainless-helper": "stream",
    "x-claude-code-session-id": "s",
    "x-app": "cli",
    "user-agent": "claude-cli/2",
    "traceparent": "00-1-2-01",
    "accept": "application/json",
    "content-type": "application/json",
}
# What would speak to a browser in the gateway's name, or of an account of ours.
HOSTILE = {
    "access-control-allow-origin": "*",
    "access-control-allow-credentials": "true",
    "clear-site-data": '"*"',
    "location": "https://elsewhere.example",
    "refresh": "0;url=https://elsewhere.example",
    "link": "<https://elsewhere.example>; rel=preload",
    "set-cookie": "sessionid=1",
    "strict-transport-security": "max-age=1",
    "alt-svc": "h3=':443'",
    "x-bf-provider": "forged",
    "x-bf-request-id": "forged",
    "www-authenticate": "Basic",
    "x-accel-redirect": "/etc/passwd",
    "service-worker-allowed": "/",
    "anthropic-organization-id": "org",
    "anthropic-ratelimit-requests-limit": "1",
}
ACTED_ON = {"request-id": "req_1", "retry-after": "7", "x-should-retry": "true", "anthropic-new": "1", "cf-ray": "1"}


def test_a_callers_headers_go_to_the_provider_where_they_are_meant_for_it(web, alice, upstream):
    upstream.answer = whole(200, message())
    bodies = {
        "/v1/messages": ask(),
        "/v1/messages/count_tokens": {name: value for name, value in ask().items() if name != "max_tokens"},
    }
    for path, body in bodies.items():
        CLIENT.post(web.url + path, json=body, headers=FOREIGN | CHOOSING | KNOWN | {"x-api-key": alice.key})
        seen = {name.decode(): value.decode() for name, value in upstream.last.headers}
        assert KNOWN.items() <= seen.items()
        assert set(seen) == {*KNOWN, "host", "content-length", "accept-encoding", "x-api-key"}
        assert not any("foreign" in value for value in seen.values())


def test_a_caller_with_a_key_of_its_own_says_in_whose_name_it_calls():
    given = [(name.encode(), value.encode()) for name, value in (CHOOSING | KNOWN).items()]
    credential = (b"x-api-key", b"secret")
    assert {*given} < {*headers.upstream(given, credential, own=True)}
    for passed in (headers.upstream(given, credential), headers.to_cloud(given)):
        assert not {name.encode() for name in CHOOSING} & {name for name, _ in passed}


@pytest.mark.parametrize("status", [200, 400])
def test_a_providers_headers_reach_a_caller_where_clients_act_on_them(web_once, alice, upstream, status):
    body = message() if status == 200 else b'{"type":"error","error":{"type":"invalid_request_error","message":"No"}}'
    upstream.answer = whole(status, body, *HOSTILE.items(), *ACTED_ON.items(), ("content-type", "application/json"))
    answer = post(web_once, alice.key)
    assert (answer.status_code, answer.content) == (status, body)
    assert ACTED_ON.items() <= dict(answer.headers).items()
    got = dict(answer.headers)
    assert not [name for name, value in HOSTILE.items() if got.get(name) == value]
    assert {name for name in got if name in HOSTILE} <= {"x-bf-provider", "x-bf-request-id"}
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    row()


def test_answers_of_our_own_are_not_guessed_at_either(web, alice):
    for path in ("/v1/models", "/v1/nothing", "/healthz"):
        answer = CLIENT.get(web.url + path, headers={"x-api-key": alice.key})
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("application/json", None),
        ("Application/JSON; charset=utf-8", None),
        ("text/event-stream; charset=utf-8", None),
        ("application/x-jsonl", None),
        ("image/png", None),
        ("text/html", "application/octet-stream"),
        ("TEXT/HTML; charset=utf-8", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("application/xhtml+xml", "application/octet-stream"),
        ("text/xml", "application/octet-stream"),
        ("text/javascript", "application/octet-stream"),
        ("multipart/x-mixed-replace; boundary=a", "application/octet-stream"),
        ("text/html, application/json", "application/octet-stream"),
        ("application/json, text/html", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_a_type_that_browsers_run_becomes_plain_bytes(said, shown):
    passed = headers.downstream([(b"content-type", said.encode())], "req")
    assert headers.value_of(passed, b"content-type") == (shown or said)


@given(st.lists(st.tuples(st.sampled_from([*FOREIGN, *KNOWN, *HOSTILE, *ACTED_ON]), st.text("abc, ;", max_size=9))))
def test_nothing_passes_that_is_on_no_list(pairs):
    sent = [(name.encode(), value.encode()) for name, value in pairs]
    for up in (headers.upstream(sent, (b"x-api-key", b"ours")), headers.to_cloud(sent), headers.traced(sent)):
        assert not {name.decode() for name, _ in up} & set(FOREIGN)
    assert {name.decode() for name, _ in headers.acted_on(sent)} <= {"retry-after", "retry-after-ms", "x-should-retry"}
    down = headers.downstream(sent, "ours")
    assert {name.decode() for name, _ in down} & set(HOSTILE) <= {"x-bf-request-id"}
    assert headers.value_of(down, b"x-bf-request-id") == "ours"
    assert len([name for name, _ in down if name == b"content-type"]) <= 1
