"""What a check of a provider key finds: a wrong secret or address shows at once."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.auth.models import User
from django.urls import reverse

from keys import provider_checks
from keys.models import CheckState, ProviderKeyCheck
from messages_api.providers.openai import probe
from messages_api.relay import key_probe
from tests.support.authority import Authority
from tests.support.checked_keys import (
    ANSWERED,
    ANTHROPIC_LIST,
    COUNTED,
    NO_PATH,
    PAIR,
    REFUSED,
    SECRET,
    UNAUTHORIZED,
    WORKS,
    add,
    guarded,
    tried,
)
from tests.support.fake_provider import End, Upstream, broken, head, whole
from tests.support.issued import make_provider_key


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("provider", "terms", "answer", "target"),
    [
        ("anthropic", {}, guarded(ANTHROPIC_LIST), "/v1/models?limit=1"),
        ("openai", {}, guarded(b'{"object": "list", "data": []}'), "/v1/models"),
        ("openai", {}, guarded(b'[{"id": "m"}]'), "/v1/models"),
        ("azure", {}, guarded(COUNTED), "/v1/messages/count_tokens"),
        (
            "bedrock",
            {"region": "eu-central-1"},
            guarded(b'{"inputTokens": 8}'),
            "/model/anthropic.claude-haiku-4-5-20251001-v1%3A0/count-tokens",
        ),
    ],
)
def test_a_provider_key_that_is_taken_works(upstream, provider, terms, answer, target):
    upstream.answer = answer
    main = add(upstream, provider, **terms)
    found = tried(main)
    assert (found.state, found.http_status, found.message) == (WORKS, 200, "")
    assert upstream.seen[0].target == target
    assert ProviderKeyCheck.objects.get().state == WORKS


@pytest.mark.django_db
@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize(
    ("provider", "terms"),
    [
        ("anthropic", {}),
        ("openai", {}),
        ("azure", {}),
        ("bedrock", {"region": "eu-central-1"}),
        ("bedrock", {"region": "eu-central-1", "secret": json.dumps(PAIR)}),
    ],
)
def test_a_provider_key_that_is_not_taken_is_refused_with_the_status(upstream, provider, terms, status):
    upstream.answer = whole(status, UNAUTHORIZED)
    found = tried(add(upstream, provider, **terms))
    assert (found.state, found.http_status, found.message) == (REFUSED, status, "invalid x-api-key")
    assert str(found) == f"refused (HTTP {status}): invalid x-api-key"


@pytest.fixture(scope="module")
def service_account():
    key = rsa.generate_private_key(65537, 2048)
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return {"type": "service_account", "project_id": "p-1", "private_key": plain, "client_email": "a@p-1.example"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("token", "answer", "state", "status"),
    [
        (200, 200, WORKS, 200),
        (200, 403, REFUSED, 403),
        (200, 404, ANSWERED, 404),
        (401, 200, REFUSED, 401),
        (500, 200, CheckState.UNREACHABLE, None),
    ],
)
def test_google_is_asked_for_a_token_first(upstream, service_account, token, answer, state, status):
    def answers(seen):
        if seen.target == "/token":
            return whole(token, b'{"access_token": "ya29.token", "expires_in": 3599}')
        return whole(answer, COUNTED if answer == 200 else b'{"error": {"message": "no"}}')

    upstream.answer = answers
    secret = json.dumps(service_account | {"token_uri": upstream.url + "/token"})
    found = tried(add(upstream, "vertex", secret, region="global"))
    assert (found.state, found.http_status) == (state, status)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("count", "state"), [(200, WORKS), (401, REFUSED), (404, ANSWERED), (405, ANSWERED), (500, ANSWERED)]
)
@pytest.mark.parametrize("missing", [404, 405, 501])
def test_a_vendor_without_a_list_of_models_is_tested_by_counting_tokens(upstream, missing, count, state):
    upstream.answer = lambda seen: whole(missing, b"") if seen.method == "GET" else whole(count, COUNTED)
    assert tried(add(upstream)).state == state
    assert [(seen.method, seen.target) for seen in upstream.seen][1:] == [("POST", "/v1/messages/count_tokens")]


@pytest.mark.django_db
def test_tokens_are_counted_of_a_model_that_the_provider_key_names(upstream):
    upstream.answer = guarded(COUNTED)
    tried(add(upstream, "azure", model_patterns=["claude-*", "our-deployment"]))
    assert json.loads(upstream.last.body)["model"] == "our-deployment"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("provider", "answer", "status", "words"),
    [
        ("openai", whole(404, NO_PATH), 404, "“no such path”; the secret is not refused"),
        ("openai", whole(405, b""), 405, "the secret is not refused"),
        ("openai", whole(200, b'{"data": []}'), None, "list of models is public"),
        ("openai", whole(200, b'{"error": "something"}'), None, "list of models is public"),
        (
            "openai",
            whole(403, b'{"error": {"message": "Missing scopes: api.model.read. Ask somebody."}}'),
            403,
            "Missing scopes: api.model.read.",
        ),
        (
            "bedrock",
            whole(403, b'{"message": "User u is not authorized to perform: bedrock:CountTokens on m"}'),
            403,
            "bedrock:CountTokens",
        ),
        ("bedrock", whole(400, b'{"message": "The provided model identifier is invalid."}'), 404, "not refused"),
        ("anthropic", whole(200, b"<html>Welcome</html>"), 200, "is the address right?"),
        ("anthropic", whole(200, b"[" * 100_000), 200, "is the address right?"),
        ("anthropic", whole(204, b""), 204, "is the address right?"),
        ("anthropic", whole(429, b'{"error": {"message": "slow down"}}'), 429, "slow down"),
        ("anthropic", whole(529, b""), 529, ""),
        ("azure", whole(404, b'{"error": {"message": "no deployment"}}'), 404, "“no deployment”"),
    ],
)
def test_an_answer_that_does_not_depend_on_the_secret_is_neither_works_nor_refused(
    upstream, provider, answer, status, words
):
    upstream.answer = answer
    found = tried(add(upstream, provider, **({"region": "eu-central-1"} if provider == "bedrock" else {})))
    assert (found.state, found.http_status) == (ANSWERED, status)
    assert words in found.message


@pytest.mark.django_db
@pytest.mark.parametrize(
    "words", ["Your credit balance is too low", "You have reached your specified API usage limits"]
)
def test_an_account_that_is_spent_is_refused(upstream, words):
    upstream.answer = whole(400, json.dumps({"error": {"message": words}}).encode())
    assert tried(add(upstream)).state == REFUSED


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("", "https://api.openai.com/v1/models"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/key"),
        ("https://api.deepseek.com", "https://api.deepseek.com/models"),
        ("https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1/models"),
        (
            "https://r.openai.azure.com?api-version=2024-10-21",
            "https://r.openai.azure.com/openai/models?api-version=2024-10-21",
        ),
        (
            "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
            "https://r.openai.azure.com/openai/models?api-version=2024-10-21",
        ),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1/models"),
    ],
)
def test_a_compatible_host_is_asked_for_what_takes_a_secret_there(base_url, url):
    assert probe.address(base_url) == url


# Hostile and absent providers


@pytest.mark.django_db
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("provider", ["anthropic", "openai", "azure"])
def test_a_redirect_is_not_followed(upstream, provider, status):
    with Upstream() as elsewhere:
        upstream.answer = whole(status, b"", ("location", elsewhere.url))
        found = tried(add(upstream, provider))
        assert (found.state, found.http_status) == (ANSWERED, status)
        assert "not followed" in found.message
        assert not elsewhere.seen


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([End.CLOSE], "closed before"),
        ([End.RESET], "closed before"),
        ([b"SSH-2.0-OpenSSH_9.6\r\n", End.CLOSE], "speak HTTP"),
        (broken([b'{"data": ['], End.RESET), "closed before"),
        ([head(200, [(b"x", b"y" * 300_000)]), End.CLOSE], "speak HTTP"),
    ],
)
def test_a_provider_that_gives_no_answer_cannot_be_reached(upstream, answer, words):
    upstream.answer = answer
    found = tried(add(upstream))
    assert (found.state, found.http_status) == (CheckState.UNREACHABLE, None)
    assert words in found.message


@pytest.mark.django_db
def test_an_address_without_a_server_is_reported_as_such():
    main = make_provider_key("main", provider="anthropic", base_url="http://127.0.0.1:9", secret=SECRET)
    assert str(tried(main)) == "can't be reached: the connection is refused"


@pytest.mark.django_db
def test_an_untrusted_certificate_is_reported_as_such(tmp_path):
    with Upstream(Authority(tmp_path).server("127.0.0.1")) as untrusted:
        assert "its certificate is not trusted" in tried(add(untrusted)).message


@pytest.mark.django_db
@pytest.mark.parametrize("begun", [[], [b"HTTP/1.1 200 \r\ncontent-length: 1000\r\n\r\n{"]])
def test_a_check_gives_up_on_a_provider_that_does_not_answer(upstream, monkeypatch, begun):
    monkeypatch.setattr(key_probe, "SECONDS", 0.3)
    upstream.answer = [*begun, *[step for _ in range(2000) for step in (b" " if begun else 0.01, 0.05)], End.CLOSE]
    found = tried(add(upstream))
    assert found.state == CheckState.UNREACHABLE
    assert "no answer" in found.message


@pytest.mark.django_db
def test_no_more_of_an_answer_is_read_than_a_list_may_have(upstream, monkeypatch):
    monkeypatch.setattr(key_probe, "MOST_BYTES", 1000)
    upstream.answer = [head(200, [(b"content-length", b"1000000000")]), *[b"x" * 1000] * 50, End.CLOSE]
    assert tried(add(upstream)).state == ANSWERED


@pytest.mark.django_db
def test_several_are_tried_at_once(upstream):
    keys = [
        make_provider_key(name, provider="anthropic", base_url=upstream.url, secret=SECRET) for name in ("a", "b", "c")
    ]
    # Each is answered once all have asked.
    upstream.answer = lambda seen: [*([0.01] * 500 if len(upstream.seen) < 3 else []), *whole(401, UNAUTHORIZED)]
    assert [found and found.state for found in provider_checks.check(*keys)] == [REFUSED] * 3


@pytest.mark.django_db
def test_a_secret_that_cannot_be_decrypted_is_reported(upstream, settings, tmp_path):
    main = add(upstream)
    settings.VAR_DIR = tmp_path
    assert "can't be decrypted" in tried(main).message
    assert not upstream.seen


# What is kept and shown of it


@pytest.mark.django_db
@pytest.mark.parametrize("secret", [SECRET, json.dumps(PAIR)])
def test_no_part_of_a_secret_is_kept_or_shown_that_its_provider_repeats(upstream, client, secret):
    client.force_login(User.objects.create_superuser("alice"))
    parts = list(json.loads(secret).values()) if secret.startswith("{") else [secret]
    said = " ".join(["Not known:", *parts, *(part[4:] for part in parts), *(f"({part[:14]}***)" for part in parts)])
    upstream.answer = whole(401, json.dumps({"error": {"message": f"{said}\nnext\x00line" + " x" * 5000}}).encode())
    terms = {"region": "eu-central-1"} if secret.startswith("{") else {}
    main = add(upstream, "bedrock" if terms else "anthropic", secret, **terms)
    found = tried(main)
    assert found.message.startswith("Not known: …")
    assert len(found.message) <= 200
    assert found.message.isprintable()
    shown = client.get(reverse("admin:keys_providerkey_changelist")).content.decode()
    for part in parts:
        assert not [at for at in range(len(part) - 5) if part[at : at + 6] in found.message]
        assert part[:10] not in shown
