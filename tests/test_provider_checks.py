"""Provider keys are tried when they are saved and whenever somebody asks: a wrong secret or address shows at once."""

from __future__ import annotations

import io
import json
import re
import sys

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from keys import keyring, provider_checks, provider_keys
from keys.models import CheckState, ProviderKey, ProviderKeyCheck
from messages_api import provider_probe
from messages_api.providers.openai import probe
from tests.authority import Authority
from tests.gateway import CLIENT
from tests.issued import make_provider_key
from tests.signed_in import signed_in
from tests.upstream import End, Upstream, broken, head, whole

SECRET = "sk-ant-api03-The-Secret-of-Alice-7f3k"
PAIR = {"access_key_id": "AKIAEXAMPLE012345678", "secret_access_key": "amazon/secret+key/0123456789abcdef"}
ANTHROPIC_LIST = b'{"data": [{"id": "claude-haiku-4-5"}], "has_more": false}'
COUNTED = b'{"input_tokens": 8}'
UNAUTHORIZED = b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}'
NO_PATH = b'{"error": {"message": "no such path"}}'
WORKS, REFUSED, ANSWERED = CheckState.WORKS, CheckState.REFUSED, CheckState.ANSWERED


def is_asked_with(seen, secret):
    return any(secret in value.decode("latin-1") for _, value in seen.headers)


def guarded(body, secret=SECRET):
    """What answers with this body to the secret, and to others that they aren't known."""
    return lambda seen: whole(200, body) if is_asked_with(seen, secret) else whole(401, UNAUTHORIZED)


def add(upstream, provider="anthropic", secret=SECRET, **terms):
    """A provider key as it is saved before anything has tried it."""
    return make_provider_key("main", provider=provider, base_url=upstream.url, secret=secret, **terms)


def tried(provider_key):
    [found] = provider_checks.check(provider_key)
    return found


# What each kind is asked, and what its answers mean


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
def test_who_speaks_anthropics_api_without_a_list_of_models_counts_tokens(upstream, missing, count, state):
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
def test_what_says_nothing_of_the_secret_is_neither_works_nor_refused(upstream, provider, answer, status, words):
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
def test_an_address_that_nothing_listens_at_is_told_as_such():
    main = make_provider_key("main", provider="anthropic", base_url="http://127.0.0.1:9", secret=SECRET)
    assert str(tried(main)) == "can't be reached: the connection is refused"


@pytest.mark.django_db
def test_a_certificate_that_is_not_trusted_is_told_as_such(tmp_path):
    with Upstream(Authority(tmp_path).server("127.0.0.1")) as untrusted:
        assert "its certificate is not trusted" in tried(add(untrusted)).message


@pytest.mark.django_db
@pytest.mark.parametrize("begun", [[], [b"HTTP/1.1 200 \r\ncontent-length: 1000\r\n\r\n{"]])
def test_a_provider_that_takes_for_ever_is_left(upstream, monkeypatch, begun):
    monkeypatch.setattr(provider_probe, "SECONDS", 0.3)
    upstream.answer = [*begun, *[step for _ in range(2000) for step in (b" " if begun else 0.01, 0.05)], End.CLOSE]
    found = tried(add(upstream))
    assert found.state == CheckState.UNREACHABLE
    assert "no answer" in found.message


@pytest.mark.django_db
def test_no_more_of_an_answer_is_read_than_a_list_may_have(upstream, monkeypatch):
    monkeypatch.setattr(provider_probe, "MOST_BYTES", 1000)
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
def test_a_secret_that_cannot_be_decrypted_is_told(upstream, settings, tmp_path):
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


def row_of(page):
    """The words of the list about the last test."""
    cell = re.search(r'<td class="field-tried">(.*?)</td>', page, re.S)
    assert cell
    return " ".join(re.sub("<[^>]*>", " ", cell[1]).split())


@pytest.fixture
def alice(client):
    client.force_login(User.objects.create_superuser("alice"))
    return client


LIST = "admin:keys_providerkey_changelist"


def filled_in(upstream, **fields):
    form = {"name": "main", "provider": "anthropic", "base_url": upstream.url, "model_patterns": "", "active": "on"}
    return form | {"secret": SECRET} | fields


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (guarded(ANTHROPIC_LIST), "works"),
        (whole(401, UNAUTHORIZED), "refused (HTTP 401)"),
        ([End.CLOSE], "can't be reached"),
        (whole(404, b""), "answered (HTTP 404)"),
    ],
)
def test_the_admin_tries_what_is_saved_and_saves_it_whatever_comes_of_that(alice, upstream, answer, shown):
    upstream.answer = answer
    response = alice.post(reverse("admin:keys_providerkey_add"), filled_in(upstream), follow=True)
    main = ProviderKey.objects.get()
    assert main.active
    page = response.content.decode()
    assert ("It was saved anyway" in page) == (shown != "works")
    assert f'class="{"success" if shown == "works" else "warning"}">“main” was tested: ' in page
    words = row_of(page).replace("&#x27;", "'")
    assert words.startswith(f"{shown} {main.last_check.checked_at:%Y-%m-%d %H:%M} UTC")
    assert shown in alice.get(reverse("admin:keys_providerkey_change", args=[main.pk])).content.decode().replace(
        "&#x27;", "'"
    )


@pytest.mark.django_db
@pytest.mark.parametrize("change", [{"secret": "sk-ant-another-secret-5678"}, {"base_url": "/other"}, {"owner": ""}])
def test_a_saved_change_is_tried_again(alice, upstream, change):
    upstream.answer = whole(401, UNAUTHORIZED)
    alice.post(reverse("admin:keys_providerkey_add"), filled_in(upstream))
    main = ProviderKey.objects.get()
    assert main.last_check.state == REFUSED
    upstream.answer = whole(200, ANTHROPIC_LIST)
    fields = filled_in(upstream, **change) | ({"base_url": upstream.url + "/other"} if "base_url" in change else {})
    alice.post(reverse("admin:keys_providerkey_change", args=[main.pk]), fields)
    assert ProviderKeyCheck.objects.get().state == WORKS
    assert is_asked_with(upstream.last, change.get("secret", SECRET))


@pytest.mark.django_db
def test_a_form_that_is_refused_tries_nothing(alice, upstream):
    alice.post(reverse("admin:keys_providerkey_add"), filled_in(upstream, secret=""))
    assert not upstream.seen
    assert not ProviderKeyCheck.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [{"secret": "sk-ant-another-secret-5678"}, {"base_url": "http://127.0.0.1:9"}, {"provider": "openai"}, {}],
)
def test_another_secret_or_address_makes_void_what_was_found(upstream, change):
    upstream.answer = whole(401, UNAUTHORIZED)
    main = add(upstream)
    tried(main)
    main.name = "renamed"
    for field in ("base_url", "provider"):
        setattr(main, field, change.get(field, getattr(main, field)))
    provider_keys.save(main, change.get("secret", SECRET if change else ""))
    assert ProviderKeyCheck.objects.exists() == (not change)


@pytest.mark.django_db
@pytest.mark.parametrize("change", [{"region": "us-east-1"}, {"secret_ciphertext": b"another"}, {"base_url": "x"}])
def test_what_is_found_of_a_provider_key_that_changes_meanwhile_is_not_kept(upstream, change):
    add(upstream, "bedrock", region="eu-central-1")
    before = ProviderKey.objects.get()
    ProviderKey.objects.update(**change)
    provider_checks._keep(before, provider_checks.Outcome(REFUSED, 401))
    assert not ProviderKeyCheck.objects.exists()


@pytest.mark.django_db
def test_it_is_tried_again_by_a_button_and_from_the_list(alice, upstream):
    main = add(upstream)
    assert row_of(alice.get(reverse(LIST)).content.decode()) == "not tested"
    upstream.answer = whole(403, UNAUTHORIZED)
    page = alice.get(reverse("admin:keys_providerkey_change", args=[main.pk])).content.decode()
    url = reverse("admin:keys_providerkey_test", args=[main.pk])
    assert f'<form method="post" action="{url}">' in page
    told = alice.post(url, follow=True).content.decode()
    assert "“main” was tested: refused (HTTP 403): invalid x-api-key." in told
    upstream.answer = whole(200, ANTHROPIC_LIST)
    told = alice.post(reverse(LIST), {"action": "test", "_selected_action": [main.pk]}, follow=True).content.decode()
    assert "“main” was tested: works." in told
    assert row_of(told).startswith("works")
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == [
        "Tested: refused (HTTP 403): invalid x-api-key.",
        "Tested: works.",
    ]


@pytest.mark.django_db
def test_a_link_tries_nothing(alice, upstream):
    assert alice.get(reverse("admin:keys_providerkey_test", args=[add(upstream).pk])).status_code == 405
    assert not upstream.seen


@pytest.mark.django_db
def test_a_page_of_another_site_tries_nothing(upstream):
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("alice"))
    main = add(upstream)
    assert client.post(reverse("admin:keys_providerkey_test", args=[main.pk])).status_code == 403
    assert client.post(reverse(LIST), {"action": "test", "_selected_action": [main.pk]}).status_code == 403
    assert not upstream.seen


@pytest.mark.django_db
@pytest.mark.parametrize(("may", "asked"), [("view_providerkey", 0), ("change_providerkey", 2)])
def test_who_may_change_provider_keys_may_try_them(upstream, client, may, asked):
    upstream.answer = whole(401, UNAUTHORIZED)
    main = add(upstream)
    bob = User.objects.create(username="bob", is_staff=True)
    bob.user_permissions.set(Permission.objects.filter(codename=may))
    client.force_login(bob)
    url = reverse("admin:keys_providerkey_test", args=[main.pk])
    assert (url in client.get(reverse("admin:keys_providerkey_change", args=[main.pk])).content.decode()) == bool(asked)
    assert client.post(url).status_code == (302 if asked else 403)
    client.post(reverse(LIST), {"action": "test", "_selected_action": [main.pk]})
    assert len(upstream.seen) == asked


@pytest.mark.django_db
def test_one_that_is_gone_is_no_page(alice):
    assert alice.post(reverse("admin:keys_providerkey_test", args=[4711])).status_code == 404


@pytest.mark.django_db
def test_echo_has_nothing_to_try(alice):
    echo = make_provider_key()
    assert tried(echo) is None
    told = alice.post(reverse("admin:keys_providerkey_test", args=[echo.pk]), follow=True).content.decode()
    assert "“echo” was not tested: there is nothing to test." in told
    assert row_of(alice.get(reverse(LIST)).content.decode()) == "there is nothing to test"


# The command


def run(monkeypatch, upstream, *more):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO(SECRET))
    arguments = ("--provider", "anthropic", "--base-url", upstream.url, "--secret-stdin", *more)
    call_command("add_provider_key", "main", *arguments, stdout=out, stderr=err)
    assert out.getvalue() == ""
    assert SECRET not in err.getvalue()
    return err.getvalue()


@pytest.mark.django_db
def test_the_command_tries_what_it_adds(monkeypatch, upstream):
    upstream.answer = guarded(ANTHROPIC_LIST)
    assert run(monkeypatch, upstream) == "Added the provider key “main”.\nTested: works.\n"
    assert ProviderKeyCheck.objects.get().state == WORKS


@pytest.mark.django_db
def test_the_command_adds_what_is_refused_and_says_so(monkeypatch, upstream):
    upstream.answer = whole(401, UNAUTHORIZED)
    assert "Tested: refused (HTTP 401): invalid x-api-key. The provider key is kept" in run(monkeypatch, upstream)
    assert keyring.decrypt(ProviderKey.objects.get().secret_ciphertext) == SECRET


@pytest.mark.django_db
def test_the_command_tries_nothing_if_it_is_not_to(monkeypatch, upstream):
    assert run(monkeypatch, upstream, "--no-check") == "Added the provider key “main”.\n"
    assert not upstream.seen


# A page of a running gateway


def test_a_gateways_own_page_tries_a_provider_key_while_calls_go_on(web, upstream):
    main = add(upstream)

    def answer(seen):
        # While the page waits, the process serves others.
        assert CLIENT.get(web.url + "/healthz").status_code == 200
        return whole(401, UNAUTHORIZED)

    upstream.answer = answer
    change, test = (reverse(f"admin:keys_providerkey_{what}", args=[main.pk]) for what in ("change", "test"))
    with signed_in() as cookies, httpx.Client(base_url=web.url, cookies=cookies, trust_env=False, timeout=60) as http:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', http.get(change).text)
        assert token
        told = http.post(test, data={"csrfmiddlewaretoken": token[1]}, follow_redirects=True)
    assert "“main” was tested: refused (HTTP 401): invalid x-api-key." in told.text
    assert len(upstream.seen) == 1
