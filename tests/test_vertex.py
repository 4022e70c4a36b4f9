"""Claude on Vertex AI: a call at Google's address with Google's token, and what it costs in a region."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from urllib.parse import parse_qs

import anthropic
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.clouds import issue_for, says_nothing_of, sent
from tests.gateway import CLIENT, Caller, Web, ask, credentials, events, message, post, refused, row, rows
from tests.upstream import Upstream, cut, pieces, whole

TOKEN = "ya29.google-access-token-0123456789"
MODEL = "claude-sonnet-4-5@20250929"
MODELS = "/v1/projects/the-project/locations/{}/publishers/anthropic/models/"
ServiceAccount = Callable[[str], str]


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture(scope="module")
def one_google() -> Iterator[Upstream]:
    with Upstream() as google:
        yield google


@pytest.fixture
def google(one_google: Upstream) -> Upstream:
    """Where Google gives tokens."""
    one_google.forget()
    one_google.answer = whole(200, json.dumps({"access_token": TOKEN, "expires_in": 3599}).encode())
    return one_google


@pytest.fixture
def service_account(google: Upstream, private_key: str) -> ServiceAccount:
    """The JSON key of a service account of this name."""

    def make(name: str) -> str:
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "the-project",
                "private_key_id": "1",
                "private_key": private_key,
                "client_email": f"{name}@the-project.iam.gserviceaccount.com",
                "token_uri": google.url + "/token",
            }
        )

    return make


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
    assert row().cost == 0


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
    assert "administrators" in refused(post(web, alice.key, ask(model=MODEL)), 503, "api_error")
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
