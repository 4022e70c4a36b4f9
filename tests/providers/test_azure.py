"""Claude in Azure AI Foundry: relayed byte for byte with Azure's credentials; Azure's errors in Anthropic's shape."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anthropic
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.conf import settings

from messages_api.providers.access_tokens import TokenRefused
from messages_api.providers.azure import fetch
from messages_api.upstream.client import UpstreamError
from tests.support.authority import Authority
from tests.support.clouds import issue_for, pem, says_nothing_of
from tests.support.fake_provider import Upstream, cut, pieces, whole
from tests.support.gateway import CLIENT as HTTP
from tests.support.gateway import MODEL, Caller, Web, ask, credentials, events, message, post, refused, row, rows

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


def test_a_refused_api_key_is_hidden_from_the_caller(web: Web, azure_alice: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(401, b'{"statusCode":401,"message":"Access denied due to invalid subscription key."}')
    assert "administrator" in refused(post(web, azure_alice.key), 503, "api_error")
    assert row().cost == 0


# A service principal


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def entra(authority: Authority) -> Iterator[Upstream]:
    """Microsoft Entra, or what stands for it."""
    token = json.dumps({"token_type": "Bearer", "expires_in": 3599, "access_token": TOKEN}).encode()
    with Upstream(authority.server("127.0.0.1")) as entra:
        entra.answer = whole(200, token)
        yield entra


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
    assert "administrator" in refused(post(trusting_web, alice.key), 503, "api_error")
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


def test_a_service_principal_may_prove_itself_by_a_certificate(
    trusting_web: Web, entra: Upstream, upstream: Upstream
) -> None:
    key = rsa.generate_private_key(65537, 2048)
    certificate = pem(key)
    secret = {"tenant_id": "tenant-4", "client_id": "the-client", "certificate": certificate, "authority": entra.url}
    alice = issue_for("azure", json.dumps(secret), upstream.url + "/anthropic")
    upstream.answer = whole(200, message())
    assert post(trusting_web, alice.key).status_code == 200
    assert upstream.last.values("authorization") == [f"Bearer {TOKEN}"]
    assert entra.last.target == "/tenant-4/oauth2/v2.0/token"
    (assertion,) = parse_qs(entra.last.body.decode())["client_assertion"]
    signed, _, signature = assertion.rpartition(".")
    salted = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
    key.public_key().verify(unpadded(signature), signed.encode(), salted, hashes.SHA256())
    about = json.loads(unpadded(signed.partition(".")[0]))
    thumbprint = x509.load_pem_x509_certificate(certificate.encode()).fingerprint(hashes.SHA256())
    assert (about["alg"], unpadded(about["x5t#S256"])) == ("PS256", thumbprint)
    says_nothing_of(trusting_web, "PRIVATE KEY", TOKEN)


def unpadded(text: str) -> bytes:
    """Bytes of base64 as JWTs have it."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# The machine's identity

MACHINE = '{"identity": "machine"}'


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> pytest.MonkeyPatch:
    """A machine without an identity, and its environment. The test must not use the proxy, which doesn't exist."""
    for name in ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "MSI_ENDPOINT", "IDENTITY_ENDPOINT", "IMDS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(settings.CONFIGURATION, "ca_bundle", authority.bundle)
    return monkeypatch


@pytest.fixture
def workload(machine: pytest.MonkeyPatch, entra: Upstream, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine with a federated token."""
    (tmp_path / "token").write_text("a-workloads-token")
    machine.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
    machine.setenv("AZURE_AUTHORITY_HOST", entra.url)
    machine.setenv("AZURE_TENANT_ID", "tenant-5")
    machine.setenv("AZURE_CLIENT_ID", "the-workload")
    return machine


@pytest.mark.parametrize(
    ("secret", "client"), [(MACHINE, "the-workload"), ('{"identity": "machine", "client_id": "another"}', "another")]
)
def test_the_machine_takes_its_federated_token_to_entra(
    workload: pytest.MonkeyPatch, entra: Upstream, secret: str, client: str
) -> None:
    token = asyncio.run(fetch(secret))
    assert token.value == TOKEN
    assert TOKEN not in repr(token)
    form = parse_qs(entra.last.body.decode())
    assert entra.last.target == "/tenant-5/oauth2/v2.0/token"
    assert (form["client_id"], form["client_assertion"]) == ([client], ["a-workloads-token"])


def test_a_refused_federated_token_differs_from_a_missing_one(workload: pytest.MonkeyPatch, entra: Upstream) -> None:
    entra.answer = whole(401, b'{"error":"invalid_client","error_description":"AADSTS70021"}')
    with pytest.raises(TokenRefused):
        asyncio.run(fetch(MACHINE))
    workload.setenv("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent")
    with pytest.raises(UpstreamError, match="no_token"):
        asyncio.run(fetch(MACHINE))


def test_entra_is_asked_by_the_proxy(workload: pytest.MonkeyPatch, entra: Upstream) -> None:
    workload.setattr(settings.CONFIGURATION, "outbound_proxy", "http://127.0.0.1:1")
    with pytest.raises(UpstreamError, match="no_token"):
        asyncio.run(fetch(MACHINE))
    assert not entra.seen


@pytest.fixture
def managed(machine: pytest.MonkeyPatch, upstream: Upstream) -> Upstream:
    """The endpoint of a machine's managed identity."""
    machine.setenv("IDENTITY_ENDPOINT", upstream.url + "/identity")
    machine.setenv("IDENTITY_HEADER", "endpoints-own-secret")
    # No proxy leads there, and this one doesn't exist.
    machine.setattr(settings.CONFIGURATION, "outbound_proxy", "http://127.0.0.1:1")
    return upstream


def test_a_managed_identity_is_asked_of_the_machine(managed: Upstream) -> None:
    told = {"access_token": TOKEN, "expires_on": "4102444800", "resource": "x", "token_type": "Bearer"}
    managed.answer = whole(200, json.dumps(told).encode(), ("content-type", "application/json"))
    token = asyncio.run(fetch('{"identity": "machine", "client_id": "the-user-assigned"}'))
    assert (token.value, token.expires) == (TOKEN, 4102444800)
    asked = parse_qs(urlsplit(managed.last.target).query)
    assert asked["resource"] == ["https://cognitiveservices.azure.com"]
    assert asked["client_id"] == ["the-user-assigned"]
    assert managed.last.values("x-identity-header") == ["endpoints-own-secret"]


@pytest.mark.parametrize(("status", "expected"), [(403, TokenRefused), (500, UpstreamError)])
def test_a_refused_managed_identity_differs_from_an_endpoint_that_is_down(
    managed: Upstream, status: int, expected: type[Exception]
) -> None:
    managed.answer = whole(status, b'{"error": "no"}', ("content-type", "application/json"))
    with pytest.raises(expected):
        asyncio.run(fetch(MACHINE))
