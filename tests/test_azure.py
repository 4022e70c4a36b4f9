"""Claude in Azure AI Foundry: relayed byte for byte with Azure's credentials; Azure's errors in Anthropic's shape."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from urllib.parse import parse_qs

import anthropic
import pytest

from tests.authority import Authority
from tests.clouds import issue_for, says_nothing_of
from tests.gateway import CLIENT as HTTP
from tests.gateway import MODEL, Caller, Web, ask, credentials, events, message, post, refused, row, rows
from tests.upstream import Upstream, cut, pieces, whole

API_KEY = "azure-api-key-0123456789abcdef"
CLIENT_SECRET = "entra~client~secret~0123456789"
TOKEN = "entra-access-token-0123456789"


@pytest.fixture
def azure_alice(served: None, upstream: Upstream) -> Caller:
    return issue_for("azure", API_KEY, upstream.url + "/anthropic")


def test_a_call_goes_to_the_resource_with_its_api_key_and_otherwise_as_it_came(
    web: Web, azure_alice: Caller, upstream: Upstream
) -> None:
    upstream.answer = whole(200, message(), ("request-id", "req_azure"))
    body = json.dumps(ask(padding=" " * 50), indent=1).encode()
    answer = HTTP.post(
        web.url + "/v1/messages?beta=true",
        content=body,
        headers=credentials(azure_alice.key) | {"anthropic-beta": "context-1m-2025-08-07", "api-key": "the-callers"},
    )
    assert answer.status_code == 200
    assert answer.content == message()
    assert answer.headers["request-id"] == "req_azure"
    assert upstream.last.target == "/anthropic/v1/messages?beta=true"
    assert upstream.last.body == body
    assert upstream.last.values("api-key") == [API_KEY]
    assert upstream.last.values("authorization") == upstream.last.values("x-api-key") == []
    assert upstream.last.values("anthropic-beta") == ["context-1m-2025-08-07"]
    assert upstream.last.values("anthropic-version") == ["2026-10-21"]
    entry = row()
    assert (entry.provider, entry.input_tokens, entry.output_tokens) == ("azure", 11, 7)
    # 4 and 20 dollars a million.
    assert (entry.cost, entry.price_flag) == (Decimal("0.000184"), "")
    says_nothing_of(web, API_KEY)


def test_the_sdk_reads_its_stream(web: Web, azure_alice: Caller, upstream: Upstream) -> None:
    stream = events("Hel", "lo")
    upstream.answer = pieces(200, cut(b"".join(stream), random.Random(5)))
    with (
        anthropic.Anthropic(base_url=web.url, api_key=azure_alice.key, max_retries=0) as sdk,
        sdk.messages.stream(model=MODEL, max_tokens=64, messages=ask()["messages"]) as helper,
    ):
        assert "".join(helper.text_stream) == "Hello"
    assert row().cost == Decimal("0.000184")


def test_tokens_are_counted_for_free(web: Web, azure_alice: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(200, b'{"input_tokens":9}')
    answer = post(web, azure_alice.key, {"model": MODEL, "messages": ask()["messages"]}, "/v1/messages/count_tokens")
    assert answer.json() == {"input_tokens": 9}
    assert upstream.last.target == "/anthropic/v1/messages/count_tokens"
    assert row().cost == 0


def test_an_error_of_azures_own_has_anthropics_shape(web: Web, azure_alice: Caller, upstream: Upstream) -> None:
    theirs = {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}}
    upstream.answer = whole(404, json.dumps(theirs).encode(), ("apim-request-id", "apim-1"), ("x-ms-region", "east"))
    answer = post(web, azure_alice.key)
    assert (answer.status_code, answer.headers["request-id"]) == (404, "apim-1")
    assert "x-ms-region" not in answer.headers
    assert answer.json() == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "The API deployment does not exist."},
        "request_id": "apim-1",
    }
    assert (row().status, row().cost) == ("refused_by_provider", Decimal(0))


def test_an_error_of_anthropics_comes_as_it_is(web: Web, azure_alice: Caller, upstream: Upstream) -> None:
    theirs = b'{"type":"error", "error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}'
    upstream.answer = whole(400, theirs)
    answer = post(web, azure_alice.key)
    assert (answer.status_code, answer.content) == (400, theirs)


def test_a_refused_api_key_is_no_business_of_the_callers(web: Web, azure_alice: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(401, b'{"statusCode":401,"message":"Access denied due to invalid subscription key."}')
    assert "administrators" in refused(post(web, azure_alice.key), 503, "api_error")
    assert row().cost == 0


# A service principal


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def one_entra(authority: Authority) -> Iterator[Upstream]:
    with Upstream(authority.server("127.0.0.1")) as entra:
        yield entra


@pytest.fixture
def entra(one_entra: Upstream) -> Upstream:
    """Microsoft Entra, or what stands for it."""
    one_entra.forget()
    one_entra.answer = whole(
        200, json.dumps({"token_type": "Bearer", "expires_in": 3599, "access_token": TOKEN}).encode()
    )
    return one_entra


@pytest.fixture
def trusting_web(served: None, start_web: Callable[..., Web], authority: Authority) -> Web:
    return start_web(ca_bundle=authority.bundle)


def principal(entra: Upstream, tenant: str) -> str:
    return json.dumps(
        {"tenant_id": tenant, "client_id": "the-client", "client_secret": CLIENT_SECRET, "authority": entra.url}
    )


def test_a_service_principal_gets_one_token_for_all_calls(
    trusting_web: Web, entra: Upstream, upstream: Upstream
) -> None:
    alice = issue_for("azure", principal(entra, "tenant-1"), upstream.url + "/anthropic")
    upstream.answer = whole(200, message())
    given: list[int] = []
    calls = [threading.Thread(target=lambda: given.append(post(trusting_web, alice.key).status_code)) for _ in range(8)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert given == [200] * 8
    assert post(trusting_web, alice.key).status_code == 200
    (asked,) = entra.seen
    assert asked.target == "/tenant-1/oauth2/v2.0/token"
    form = parse_qs(asked.body.decode())
    assert form["scope"] == ["https://cognitiveservices.azure.com/.default"]
    assert (form["client_id"], form["client_secret"]) == (["the-client"], [CLIENT_SECRET])
    assert {tuple(seen.values("authorization")) for seen in upstream.seen} == {(f"Bearer {TOKEN}",)}
    assert upstream.last.values("api-key") == []
    assert {entry.cost for entry in rows(9)} == {Decimal("0.000184")}
    says_nothing_of(trusting_web, CLIENT_SECRET, TOKEN)


def test_a_service_principal_that_is_refused_is_our_trouble(
    trusting_web: Web, entra: Upstream, upstream: Upstream
) -> None:
    alice = issue_for("azure", principal(entra, "tenant-2"), upstream.url + "/anthropic")
    entra.answer = whole(401, b'{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret."}')
    assert "administrators" in refused(post(trusting_web, alice.key), 503, "api_error")
    assert not upstream.seen
    assert (row().status, row().cost) == ("refused_by_provider", Decimal(0))
    says_nothing_of(trusting_web, CLIENT_SECRET)


def test_where_no_token_can_be_had_the_provider_cannot_be_reached(
    trusting_web: Web, entra: Upstream, upstream: Upstream
) -> None:
    alice = issue_for("azure", principal(entra, "tenant-3"), upstream.url + "/anthropic")
    entra.answer = whole(500, b"down")
    refused(post(trusting_web, alice.key), 502, "api_error")
    entra.answer = whole(200, json.dumps({"expires_in": 3599, "access_token": TOKEN}).encode())
    upstream.answer = whole(200, message())
    assert post(trusting_web, alice.key).status_code == 200
    assert [entry.status for entry in rows(2)] == ["failed", "completed"]
