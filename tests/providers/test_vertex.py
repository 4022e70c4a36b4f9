"""Claude on Vertex AI: a call at Google's address with Google's token, and what it costs in a region."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anthropic
import pytest
from django.conf import settings

from messages_api.providers.access_tokens import TokenRefused
from messages_api.providers.vertex import fetch_blocking
from messages_api.upstream.client import UpstreamError
from tests.support.answers import refusal, steps
from tests.support.clouds import issue_for, says_nothing_of, sent
from tests.support.fake_provider import Seen, Step, Upstream, cut, pieces, whole
from tests.support.gateway import CLIENT, Caller, Web, ask, credentials, events, message, post, refused, row, rows
from tests.support.google import TOKEN, ServiceAccount

MODEL = "claude-sonnet-4-5@20250929"
MODELS = "/v1/projects/the-project/locations/{}/publishers/anthropic/models/"


@pytest.fixture
def vertex_alice(served: None, upstream: Upstream, service_account: ServiceAccount) -> Caller:
    return issue_for("vertex", service_account("alice"), upstream.url, region="global")


def test_a_call_names_project_model_and_version_as_google_wants_them(
    web: Web, vertex_alice: Caller, upstream: Upstream
) -> None:
    upstream.answer = whole(200, message(model="claude-sonnet-4-5-20250929"))
    rest = b' "max_tokens":64,\n "messages":[{"role":"user","content":"H\xc3\xa9"}] }'
    body = b'{ "model" : "claude-sonnet-4-5-20250929",' + rest
    extra = {"anthropic-beta": "context-1m-2025-08-07", "x-goog-user-project": "somebody-elses", "user-agent": "me"}
    answer = CLIENT.post(
        web.url + "/v1/messages?beta=true", content=body, headers=credentials(vertex_alice.key) | extra
    )
    assert (answer.status_code, answer.content) == (200, message(model="claude-sonnet-4-5-20250929"))
    assert upstream.last.target == MODELS.format("global") + MODEL + ":rawPredict"
    assert upstream.last.body == b'{"anthropic_version":"vertex-2023-10-16",' + rest
    assert upstream.last.values("authorization") == [f"Bearer {TOKEN}"]
    assert upstream.last.values("anthropic-beta") == ["context-1m-2025-08-07"]
    assert upstream.last.values("user-agent") == ["me"]
    for name in ("anthropic-version", "x-api-key", "x-goog-user-project"):
        assert upstream.last.values(name) == []
    entry = row()
    # 3 and 15 dollars a million.
    assert (entry.provider, entry.cost, entry.price_flag) == ("vertex", Decimal("0.000138"), "")
    says_nothing_of(web, TOKEN, "PRIVATE KEY")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("category", ["cyber", "bio"])
def test_a_refusal_before_any_output_costs_what_it_does_at_anthropic(
    web: Web, vertex_alice: Caller, upstream: Upstream, category: str, stream: bool
) -> None:
    answer = refusal(category, model="claude-sonnet-4-5-20250929", input_tokens=1000)
    upstream.answer = steps(answer, stream=stream)
    assert post(web, vertex_alice.key, ask(model=MODEL, stream=stream)).status_code == 200
    entry = row()
    expected = (Decimal(0), "refusal_not_billed") if category == "cyber" else (Decimal("0.003"), "")
    assert (entry.cost, entry.price_flag, entry.input_tokens) == (*expected, 1000)


def test_a_call_in_a_region_costs_a_tenth_more(
    web: Web, served: None, upstream: Upstream, service_account: ServiceAccount
) -> None:
    alice = issue_for("vertex", service_account("bob"), upstream.url, region="europe-west1", project="the-project")
    upstream.answer = whole(200, message(model="claude-sonnet-4-5-20250929"))
    assert post(web, alice.key, ask(model=MODEL)).status_code == 200
    assert upstream.last.target == MODELS.format("europe-west1") + MODEL + ":rawPredict"
    entry = row()
    assert (entry.cost, entry.price_flag) == (Decimal("0.0001518"), "")
    assert entry.price_version.endswith("google/claude-sonnet-4-5 +10 %")
    assert entry.model == "claude-sonnet-4-5-20250929"


def test_the_sdk_reads_its_stream(web: Web, vertex_alice: Caller, upstream: Upstream) -> None:
    stream = b"".join(events("Hel", "lo"))
    upstream.answer = pieces(200, cut(stream, random.Random(7)))
    with (
        anthropic.Anthropic(base_url=web.url, api_key=vertex_alice.key, max_retries=0) as sdk,
        sdk.messages.stream(model=MODEL, max_tokens=64, messages=ask()["messages"]) as helper,
    ):
        assert "".join(helper.text_stream) == "Hello"
    assert upstream.last.target.endswith(f"/{MODEL}:streamRawPredict")
    assert sent(upstream.last)["stream"] is True
    assert (row().input_tokens, row().output_tokens) == (11, 7)


def test_tokens_are_counted_where_the_body_names_the_model(web: Web, vertex_alice: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(200, b'{"input_tokens":9}')
    asked = {"model": "claude-sonnet-4-5-20250929", "messages": ask()["messages"]}
    assert post(web, vertex_alice.key, asked, "/v1/messages/count_tokens").json() == {"input_tokens": 9}
    assert upstream.last.target == MODELS.format("global") + "count-tokens:rawPredict"
    assert sent(upstream.last) == asked | {"anthropic_version": "vertex-2023-10-16", "model": MODEL}


def test_calls_that_wait_for_a_token_wait_for_the_same(
    web: Web, served: None, upstream: Upstream, google: Upstream, service_account: ServiceAccount
) -> None:
    alice = issue_for("vertex", service_account("carol"), upstream.url, region="global")
    upstream.answer = whole(200, message())
    given: list[int] = []
    body = ask(model=MODEL)
    calls = [threading.Thread(target=lambda: given.append(post(web, alice.key, body).status_code)) for _ in range(8)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert given == [200] * 8
    (asked,) = google.seen
    form = parse_qs(asked.body.decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert len(form["assertion"][0].split(".")) == 3
    rows(8)


@pytest.mark.parametrize(
    ("theirs", "status", "kind"),
    [
        (
            {"error": {"code": 404, "message": "Publisher Model was not found.", "status": "NOT_FOUND"}},
            404,
            "not_found",
        ),
        ([{"error": {"code": 429, "message": "Quota exceeded."}}], 429, "rate_limit"),
        ({"error": {"code": 400, "message": "Bad field."}}, 400, "invalid_request"),
    ],
)
def test_googles_errors_have_anthropics_shape(
    web: Web, vertex_alice: Caller, upstream: Upstream, theirs: object, status: int, kind: str
) -> None:
    upstream.answer = whole(status, json.dumps(theirs).encode(), ("retry-after", "3"))
    answer = post(web, vertex_alice.key, ask(model=MODEL))
    about = theirs[0] if isinstance(theirs, list) else theirs
    assert isinstance(about, dict)
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "3")
    assert answer.json()["error"] == {"type": f"{kind}_error", "message": about["error"]["message"]}
    assert row().cost == 0


def test_a_service_account_that_is_refused_is_our_trouble(
    web: Web, served: None, upstream: Upstream, google: Upstream, service_account: ServiceAccount
) -> None:
    alice = issue_for("vertex", service_account("dave"), upstream.url, region="global")
    google.answer = whole(400, b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}')
    assert "administrator" in refused(post(web, alice.key, ask(model=MODEL)), 503, "api_error")
    assert not upstream.seen
    assert row().cost == 0


def test_a_token_that_expires_soon_is_renewed(
    web: Web, served: None, upstream: Upstream, google: Upstream, service_account: ServiceAccount
) -> None:
    alice = issue_for("vertex", service_account("erin"), upstream.url, region="global")
    google.answer = whole(200, json.dumps({"access_token": "soon-over", "expires_in": 5}).encode())
    upstream.answer = whole(200, message())
    post(web, alice.key, ask(model=MODEL))
    google.answer = whole(200, json.dumps({"access_token": TOKEN, "expires_in": 3599}).encode())
    post(web, alice.key, ask(model=MODEL))
    assert [seen.values("authorization") for seen in upstream.seen] == [["Bearer soon-over"], [f"Bearer {TOKEN}"]]
    rows(2)


# Federated identities, and the machine's


def federated(google: Upstream, source: dict[str, Any], **members: Any) -> str:
    """The JSON of a workload identity pool."""
    return json.dumps(
        {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": google.url + "/sts",
            "credential_source": source,
            **members,
        }
    )


def user(**members: Any) -> dict[str, Any]:
    return {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"} | members


def test_a_federated_identity_takes_its_file_to_google(
    web: Web, served: None, upstream: Upstream, google: Upstream, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a-workloads-token")
    secret = federated(google, {"file": str(tmp_path / "token")}, quota_project_id="the-project")
    alice = issue_for("vertex", secret, upstream.url, region="global")
    upstream.answer = whole(200, message())
    for _ in range(2):
        assert post(web, alice.key, ask(model=MODEL)).status_code == 200
    (asked,) = google.seen
    form = parse_qs(asked.body.decode())
    assert (asked.target, form["subject_token"]) == ("/sts", ["a-workloads-token"])
    assert form["scope"] == ["https://www.googleapis.com/auth/cloud-platform"]
    assert upstream.last.target.startswith("/v1/projects/the-project/")
    assert upstream.last.values("authorization") == [f"Bearer {TOKEN}"]
    rows(2)
    says_nothing_of(web, "a-workloads-token", TOKEN)


def test_a_federated_identity_may_impersonate_a_service_account(google: Upstream) -> None:
    def answer(seen: Seen) -> Sequence[Step]:
        if seen.target == "/proof":
            return whole(200, b'{"proof": "by-url"}')
        if seen.target == "/sts":
            return whole(200, b'{"access_token": "pool-token", "expires_in": 3599}')
        assert seen.values("authorization") == ["Bearer pool-token"]
        return whole(200, json.dumps({"accessToken": TOKEN, "expireTime": "2100-01-01T00:00:00Z"}).encode())

    google.answer = answer
    source = {"url": google.url + "/proof", "format": {"type": "json", "subject_token_field_name": "proof"}}
    impersonating = google.url + "/v1/projects/-/serviceAccounts/a@b:generateAccessToken"
    token = fetch_blocking(federated(google, source, service_account_impersonation_url=impersonating))
    assert (token.value, token.expires) == (TOKEN, 4102444800)
    assert TOKEN not in repr(token)
    assert [seen.target for seen in google.seen][:2] == ["/proof", "/sts"]


def test_an_impersonated_service_account_is_asked_for_by_whom_google_knows(
    google: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(seen: Seen) -> Sequence[Step]:
        if seen.target == "/token":
            return whole(200, b'{"access_token": "users-token", "expires_in": 3599}')
        assert seen.target == "/iam/robot@the-project"
        assert seen.values("authorization") == ["Bearer users-token"]
        assert sent(seen)["scope"] == ["https://www.googleapis.com/auth/cloud-platform"]
        return whole(200, json.dumps({"accessToken": TOKEN, "expireTime": "2100-01-01T00:00:00Z"}).encode())

    google.answer = answer
    monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", google.url + "/token")
    monkeypatch.setattr("google.auth.iam._IAM_ENDPOINT", google.url + "/iam/{}")
    url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/robot@the-project:generateAccessToken"
    secret = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": url,
        "source_credentials": user(),
    }
    assert fetch_blocking(json.dumps(secret)).value == TOKEN


def test_a_users_token_has_the_scopes_that_the_user_agreed_to(
    google: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", google.url + "/token")
    token = fetch_blocking(json.dumps(user()))
    assert (token.value, "scope" in parse_qs(google.last.body.decode())) == (TOKEN, False)
    assert 3500 < token.expires - time.time() < 3700


def test_the_machine_is_asked_of_its_metadata_server(
    served: None, start_web: Callable[..., Web], upstream: Upstream, google: Upstream
) -> None:
    def answer(seen: Seen) -> Sequence[Step]:
        assert seen.values("metadata-flavor") == ["Google"]
        told: dict[str, Any] = {"email": "robot@the-project", "scopes": [], "aliases": ["default"]}
        if "/token" in seen.target:
            told = {"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"}
        return whole(
            200, json.dumps(told).encode(), ("metadata-flavor", "Google"), ("content-type", "application/json")
        )

    google.answer = answer
    host = google.url.removeprefix("http://")
    web = start_web(gce_metadata_host=host, gce_metadata_ip=host, cloudsdk_config="/nonexistent", home="/nonexistent")
    alice = issue_for("vertex", '{"identity": "machine"}', upstream.url, region="global", project="the-project")
    upstream.answer = whole(200, message())
    assert post(web, alice.key, ask(model=MODEL)).status_code == 200
    assert upstream.last.values("authorization") == [f"Bearer {TOKEN}"]
    assert "cloud-platform" in google.last.target
    says_nothing_of(web, TOKEN)


def test_the_machine_may_name_its_credentials_in_a_file(
    google: Upstream, service_account: ServiceAccount, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "adc.json").write_text(service_account("frank"))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))
    assert fetch_blocking('{"identity": "machine"}').value == TOKEN


def test_google_is_asked_by_the_proxy_and_a_metadata_server_without(
    google: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No server answers.
    monkeypatch.setattr(settings.CONFIGURATION, "outbound_proxy", "http://127.0.0.1:1")
    (tmp_path / "token").write_text("a-workloads-token")
    secret = federated(google, {"file": str(tmp_path / "token")})
    with pytest.raises(UpstreamError, match="no_token"):
        fetch_blocking(secret)
    monkeypatch.setenv("GCE_METADATA_HOST", google.url.removeprefix("http://"))
    assert fetch_blocking(secret).value == TOKEN


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (400, b'{"error": "invalid_grant"}', TokenRefused),
        (403, b"no", TokenRefused),
        (500, b"down", UpstreamError),
        (429, b"{}", UpstreamError),
        (200, b"nonsense", UpstreamError),
        (200, b"{}", UpstreamError),
    ],
)
def test_a_refusal_by_google_differs_from_a_failure_to_answer(
    google: Upstream, tmp_path: Path, status: int, answer: bytes, expected: type[Exception]
) -> None:
    (tmp_path / "token").write_text("a-workloads-token")
    google.answer = whole(status, answer)
    with pytest.raises(expected):
        fetch_blocking(federated(google, {"file": str(tmp_path / "token")}))


def test_a_proof_that_is_not_there_is_an_outage(google: Upstream) -> None:
    with pytest.raises(UpstreamError, match="no_token"):
        fetch_blocking(federated(google, {"file": "/nonexistent"}))
    with pytest.raises(UpstreamError, match="no_token"):
        fetch_blocking(federated(google, {"url": "http://127.0.0.1:1/"}))
