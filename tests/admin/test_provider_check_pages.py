"""Where provider keys are checked: when the admin or a command saves them, and by a button."""

from __future__ import annotations

import io
import re
import sys

import httpx
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from keys import keyring, provider_checks, provider_keys, viewer
from keys.models import ProviderKey, ProviderKeyCheck
from tests.support import admin_forms
from tests.support.checked_keys import (
    ANTHROPIC_LIST,
    REFUSED,
    SECRET,
    UNAUTHORIZED,
    WORKS,
    add,
    guarded,
    is_asked_with,
    tried,
)
from tests.support.fake_provider import End, whole
from tests.support.gateway import CLIENT
from tests.support.issued import make_provider_key
from tests.support.signed_in import signed_in


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
def test_the_admin_tests_a_saved_provider_key_and_keeps_it_if_the_test_fails(alice, upstream, answer, shown):
    upstream.answer = answer
    response = alice.post(reverse("admin:keys_providerkey_add"), filled_in(upstream), follow=True)
    main = ProviderKey.objects.get()
    assert main.active
    page = response.content.decode()
    assert ("It was saved anyway" in page) == (shown != "works")
    assert f'class="{"success" if shown == "works" else "warning"}">“main” was tested: ' in page
    words = row_of(page).replace("&#x27;", "'")
    assert words.startswith(f"{shown} {viewer.moment(main.last_check.checked_at)}")
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
    admin_forms.change(alice, reverse("admin:keys_providerkey_change", args=[main.pk]), fields)
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
def test_a_person_who_may_change_provider_keys_may_test_them(upstream, client, may, asked):
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
def test_a_missing_row_has_no_page(alice):
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
