from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from keys import issuing, keyring
from keys.audit.models import AuditEvent
from keys.models import Credential, Customer, Gateway, GatewayToken, ProviderKey, VirtualKey
from tests.support.admin_forms import change
from tests.support.issued import SECRET, make_key, make_provider_key, opened_by
from tests.support.owner import own_secrets as own_secrets

pytestmark = pytest.mark.django_db

PLAIN = re.compile(r"(?:sk|gt)-bf-[0-9A-Za-z]{49}")


@pytest.fixture
def alice_may_everything(client):
    client.force_login(User.objects.create_superuser("alice", password=None))
    return client


def log_in_bob(*codenames):
    """Bob works with the admin, and may do no more than this."""
    bob = User.objects.create(username="bob", is_staff=True)
    bob.user_permissions.set(Permission.objects.filter(codename__in=codenames, content_type__app_label="keys"))
    client = Client()
    client.force_login(bob)
    return client


def page(model, what, *arguments):
    return reverse(f"admin:keys_{model}_{what}", args=arguments)


def found(pattern, response):
    """The first group of a pattern that the page must have."""
    match = re.search(pattern, response.content.decode())
    assert match, pattern
    return match[1]


def shown(response):
    """The secret on a page that shows one."""
    return found(r'<code id="secret">([^<]+)</code>', response)


def filled_in(name="alice", provider_keys=(), weight=1, **fields):
    """The form that issues a key, as a browser sends it."""
    routes: dict[str, object] = {}
    for number, provider_key in enumerate(provider_keys):
        routes |= {f"routes-{number}-provider_key": provider_key.pk, f"routes-{number}-weight": weight}
    blank = {"team": "", "owner": "", "allowed_models": "", "denied_models": "", "labels": "", "expires_at": ""}
    management = {
        "routes-TOTAL_FORMS": max(1, len(provider_keys)),
        "routes-INITIAL_FORMS": 0,
        "routes-MIN_NUM_FORMS": 1,
    }
    return {"name": name} | blank | management | routes | fields


def issue(client, **fields):
    """Send the page that issues a key."""
    customer, _ = Customer.objects.get_or_create(name="Acme")
    provider_key = ProviderKey.objects.filter(name="echo").first() or make_provider_key()
    form = {"name": "alice", "customer": customer.pk, "provider_keys": [provider_key.pk], "period": "month"}
    return client.post(page("virtualkey", "add"), form | {"enforcement": "hard"} | fields)


def everything_kept(client):
    """What the server and the browser keep of a visit: cookies, sessions, the log of changes."""
    kept = [cookie.OutputString() for cookie in client.cookies.values()]
    kept += [str(session.get_decoded()) for session in Session.objects.all()]
    kept += [str(vars(entry)) for entry in LogEntry.objects.all()]
    return "\n".join(kept)


def test_a_key_is_shown_once_and_kept_nowhere(alice_may_everything):
    client = alice_may_everything
    response = issue(client, allowed_models="claude-haiku-4-5, echo-*", labels="project=atlas")
    plain = shown(response)
    alice = opened_by(plain).virtual_key
    assert (alice.allowed_models, alice.labels) == (["claude-haiku-4-5", "echo-*"], {"project": "atlas"})
    assert "no-store" in response["Cache-Control"]
    for address in (page("virtualkey", "change", alice.pk), page("virtualkey", "changelist"), reverse("admin:index")):
        assert not PLAIN.search(client.get(address).content.decode())
    assert not PLAIN.search(everything_kept(client))
    assert LogEntry.objects.get().object_id == str(alice.pk)


def test_a_page_with_a_key_has_no_script_of_its_own(alice_may_everything):
    content = issue(alice_may_everything).content.decode()
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", content, re.DOTALL)
    assert any("keys/copy.js" in attributes for attributes, _ in scripts)
    assert not [text for _, text in scripts if text.strip()]


def test_terms_are_changed_and_the_secret_stays(alice_may_everything):
    alice, plain = make_key()
    route = alice.routes.get()
    form = filled_in(
        owner="Bob",
        team=alice.team_id,
        provider_keys=[route.provider_key],
        weight=7,
        **{"routes-INITIAL_FORMS": 1, "routes-0-id": route.pk, "routes-0-virtual_key": alice.pk},
        **{
            f"{name}-{forms}_FORMS": 0
            for name in ("credentials", "budgets", "limits")
            for forms in ("TOTAL", "INITIAL")
        },
    )
    response = change(alice_may_everything, page("virtualkey", "change", alice.pk), form)
    assert response.status_code == 302, response.content.decode()
    alice.refresh_from_db()
    assert (alice.owner, alice.routes.get().weight) == ("Bob", 7)
    assert opened_by(plain).virtual_key == alice


def test_a_rotation_shows_the_new_key_once(alice_may_everything):
    client = alice_may_everything
    alice, old = make_key()
    address = page("virtualkey", "rotate", alice.pk)
    newest = found(r'name="newest" value="(\d+)"', client.get(address))
    response = client.post(address, {"overlap": "3600", "newest": newest})
    new = shown(response)
    assert opened_by(new).virtual_key == alice
    assert opened_by(old).expires_at - timezone.now() > timedelta(minutes=59)
    assert "no-store" in response["Cache-Control"]
    assert not PLAIN.search(everything_kept(client))
    again = client.post(address, {"overlap": "3600", "newest": newest})
    assert "after you opened this page" in again.content.decode()
    assert Credential.objects.count() == 2


def test_a_key_is_revoked_after_a_question_and_is_read_only_then(alice_may_everything):
    client = alice_may_everything
    alice, _ = make_key()
    address = page("virtualkey", "revoke", alice.pk)
    assert b"undo this" in client.get(address).content
    assert "This field is required" in client.post(address, {"confirmed": "yes"}).content.decode()
    assert VirtualKey.objects.get().revoked_at is None
    client.post(address, {"confirmed": "yes", "cut_streams": "on", "reason": "Leaked by mistake"})
    alice.refresh_from_db()
    assert alice.revoked_at
    assert alice.cut_streams_at
    assert alice.revoke_reason == "Leaked by mistake"
    assert "Leaked by mistake" in client.get(reverse("admin:key", args=[alice.pk])).content.decode()
    event = AuditEvent.objects.get(table_name="keys_virtualkey", changes__has_key="revoke_reason", action="changed")
    assert event.changes["revoke_reason"] == {"from": "", "to": "Leaked by mistake"}
    content = client.get(page("virtualkey", "change", alice.pk)).content.decode()
    assert 'name="owner"' not in content
    assert client.post(page("virtualkey", "change", alice.pk), {"name": "x"}).status_code == 403
    assert client.get(page("virtualkey", "rotate", alice.pk)).status_code == 403
    assert client.post(page("virtualkey", "resume", alice.pk)).status_code == 403


def test_a_key_is_paused_and_resumed_by_buttons_that_post(alice_may_everything):
    client = alice_may_everything
    alice, _ = make_key()
    assert client.get(page("virtualkey", "pause", alice.pk)).status_code == 405
    client.post(page("virtualkey", "pause", alice.pk))
    alice.refresh_from_db()
    assert alice.state == "paused"
    client.post(page("virtualkey", "resume", alice.pk))
    alice.refresh_from_db()
    assert alice.state == "active"
    assert LogEntry.objects.count() == 2


def test_the_page_of_a_key_has_the_button_and_is_shown_again_afterwards(alice_may_everything):
    alice, _ = make_key()
    own = reverse("admin:key", args=[alice.pk])
    for title, other in (("Pause", "Resume"), ("Resume", "Pause")):
        shown_first = alice_may_everything.get(own).content.decode()
        assert f"{title}</button>" in shown_first
        assert f"{other}</button>" not in shown_first
        answer = alice_may_everything.post(page("virtualkey", title.lower(), alice.pk))
        assert answer.headers["location"] == own
    bob = log_in_bob("view_virtualkey")
    assert "Pause</button>" not in bob.get(own).content.decode()


@pytest.mark.parametrize("action", ["rotate", "revoke", "pause", "resume"])
def test_a_request_from_another_site_changes_nothing(action):
    alice, _ = make_key()
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("alice", password=None))
    assert client.post(page("virtualkey", action, alice.pk), {"confirmed": "yes"}).status_code == 403
    alice.refresh_from_db()
    assert (alice.state, alice.credentials.count()) == ("active", 1)


@pytest.mark.parametrize("action", ["rotate", "revoke", "pause", "resume"])
def test_a_person_who_may_only_view_may_not_act(action):
    alice, _ = make_key()
    client = log_in_bob("view_virtualkey")
    assert client.get(page("virtualkey", "change", alice.pk)).status_code == 200
    assert client.post(page("virtualkey", action, alice.pk), {"confirmed": "yes"}).status_code == 403
    alice.refresh_from_db()
    assert alice.state == "active"


def test_a_person_who_may_issue_keys_needs_no_permission_on_their_parts():
    client = log_in_bob("add_virtualkey", "view_virtualkey")
    assert opened_by(shown(issue(client)))


def test_lists_of_keys_are_paused_resumed_and_revoked(alice_may_everything):
    client = alice_may_everything
    keys = [make_key(name)[0] for name in ("one", "two", "three")]
    chosen = {"_selected_action": [keys[0].pk, keys[1].pk]}

    def act(action, **more):
        return client.post(page("virtualkey", "changelist"), {"action": action} | chosen | more)

    def states():
        return [key.state for key in VirtualKey.objects.order_by("pk")]

    act("pause")
    assert states() == ["paused", "paused", "active"]
    act("resume")
    assert states() == ["active", "active", "active"]
    assert b"undo this" in act("revoke").content
    assert states() == ["active", "active", "active"]
    act("revoke", confirmed="yes", reason="No longer used")
    assert states() == ["revoked", "revoked", "active"]
    act("pause")
    assert VirtualKey.objects.filter(active=False).count() == 0


def test_a_key_is_found_by_name_owner_and_end(alice_may_everything):
    _, plain = make_key("needle", owner="Bob")
    make_key("other")
    for term in ("needl", "Bob", plain[-4:], plain[-3:], plain[-9:], plain):
        content = alice_may_everything.get(page("virtualkey", "changelist"), {"q": term}).content.decode()
        assert ">needle</a>" in content
        assert ">other</a>" not in content


@pytest.mark.parametrize("state", ["active", "paused", "expired", "revoked"])
def test_keys_are_filtered_by_state(alice_may_everything, state):
    for name in ("active", "paused", "expired", "revoked"):
        make_key(name)
    VirtualKey.objects.filter(name="paused").update(active=False)
    VirtualKey.objects.filter(name="expired").update(expires_at=timezone.now())
    issuing.revoke(VirtualKey.objects.get(name="revoked"))
    content = alice_may_everything.get(page("virtualkey", "changelist"), {"state": state}).content.decode()
    assert re.findall(r"/admin/key/\d+/[^>]*>(\w+)</a></th>", content) == [state]


def test_a_list_shows_the_ends_and_takes_few_queries(alice_may_everything, django_assert_max_num_queries):
    plains = [make_key(f"key {number}")[1] for number in range(20)]
    # The first page of a session records it.
    alice_may_everything.get(page("virtualkey", "changelist"))
    with django_assert_max_num_queries(14):
        content = alice_may_everything.get(page("virtualkey", "changelist")).content.decode()
    assert all(f"{plain[:9]}…{plain[-4:]}" in content for plain in plains)


def test_no_user_can_edit_the_passed_through_key(alice_may_everything):
    Customer.objects.create(name="Acme")
    hidden = issuing.ensure_passthrough_key("Acme").virtual_key
    assert alice_may_everything.get(page("virtualkey", "change", hidden.pk)).status_code == 404
    assert b"passed through" not in alice_may_everything.get(page("virtualkey", "changelist")).content
    assert alice_may_everything.post(page("virtualkey", "revoke", hidden.pk), {"confirmed": "yes"}).status_code == 404


@pytest.mark.parametrize(
    ("model", "lookup"),
    [
        ("gatewaytoken", "digest__gt"),
        ("gatewaytoken", "digest"),
        ("virtualkey", "credentials__digest__gt"),
        ("virtualkey", "routes__provider_key__secret_ciphertext__gt"),
        ("providerkey", "secret_ciphertext__gt"),
    ],
)
def test_a_list_answers_no_questions_about_secrets(alice_may_everything, model, lookup):
    make_key()
    # DisallowedModelAdminLookup is a SuspiciousOperation: 400
    assert alice_may_everything.get(page(model, "changelist"), {lookup: "a"}).status_code == 400


@pytest.mark.parametrize("lookup", ["name__regex", "customer__name__iregex"])
def test_a_list_takes_no_pattern_that_the_database_would_be_hours_at(alice_may_everything, lookup):
    make_key()
    hours = {lookup: "((((a?){9}){9}){9})b"}
    assert alice_may_everything.get(page("virtualkey", "changelist"), hours).status_code == 400


def test_a_list_looks_for_no_more_words_than_people_write(alice_may_everything):
    alice, _ = make_key()
    list_of_keys = page("virtualkey", "changelist")
    for words, count in (([alice.name], 1), ([alice.name] * 300, 0)):
        answer = alice_may_everything.get(list_of_keys, {"q": " ".join(words)})
        assert (answer.status_code, answer.context["cl"].result_count) == (200, count)


@pytest.mark.parametrize("model", ["virtualkey", "customer", "team", "providerkey", "gatewaytoken", "gateway"])
def test_nothing_that_the_ledger_names_is_deleted(alice_may_everything, model):
    alice, _ = make_key()
    issuing.issue_gateway_token("bob", alice)
    Gateway.objects.get_or_create(id=1)
    row = {
        "virtualkey": alice,
        "customer": alice.customer,
        "team": alice.team,
        "providerkey": ProviderKey.objects.get(),
        "gatewaytoken": GatewayToken.objects.get(kind="gateway_token"),
        "gateway": Gateway.objects.get(),
    }[model]
    assert alice_may_everything.post(page(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"}
    alice_may_everything.post(page(model, "changelist"), chosen)
    assert type(row).objects.filter(pk=row.pk).exists()


def test_a_provider_secret_goes_in_and_never_comes_out(alice_may_everything):
    client = alice_may_everything
    form = {"name": "main", "provider": "anthropic", "base_url": "http://127.0.0.1:9"}
    form |= {"model_patterns": "claude-*, other"}
    client.post(page("providerkey", "add"), form | {"active": "on", "secret": SECRET})
    main = ProviderKey.objects.get()
    assert keyring.decrypt(main.secret_ciphertext) == SECRET
    assert main.model_patterns == ["claude-*", "other"]
    address = page("providerkey", "change", main.pk)
    content = client.get(address).content.decode()
    assert f"…{SECRET[-4:]}" in content
    assert SECRET not in content + client.get(page("providerkey", "changelist")).content.decode()
    assert SECRET not in everything_kept(client)
    change(client, address, form | {"secret": ""})  # not active any more
    main.refresh_from_db()
    assert not main.active
    assert keyring.decrypt(main.secret_ciphertext) == SECRET
    refused = change(client, address, form | {"base_url": "https://elsewhere.example", "secret": ""})
    assert "type the secret again" in refused.content.decode()
    typed = change(client, address, form | {"base_url": "https://elsewhere.example/v1", "secret": SECRET})
    assert "leave /v1 out" in typed.content.decode()
    assert SECRET not in typed.content.decode()


def test_a_person_who_may_only_view_sees_a_provider_key_without_its_secret():
    main = make_provider_key("main", provider="anthropic", secret=SECRET)
    content = log_in_bob("view_providerkey").get(page("providerkey", "change", main.pk)).content.decode()
    assert "main" in content
    assert SECRET not in content


def test_a_provider_key_shows_the_account_that_its_provider_names(alice_may_everything):
    client = alice_may_everything
    main = make_provider_key("main", provider="anthropic", secret=SECRET)
    ProviderKey.objects.filter(pk=main.pk).update(organization_id="org-4711", workspace_id="wrkspc-12")
    for address in (page("providerkey", "changelist"), page("providerkey", "change", main.pk)):
        content = client.get(address).content.decode()
        assert "org-4711" in content
        assert "wrkspc-12" in content
    assert "learned from its answers" in content
    assert 'name="organization_id"' not in content
    assert "organisation" not in client.get(page("providerkey", "add")).content.decode().lower()


def test_a_gateway_token_is_shown_once_and_revoked(alice_may_everything):
    client = alice_may_everything
    alice, _ = make_key()
    client.get(page("gatewaytoken", "add"))
    response = client.post(page("gatewaytoken", "add"), {"name": "bob", "virtual_key": alice.pk})
    token = opened_by(shown(response))
    assert (token.name, token.virtual_key) == ("bob", alice)
    assert not PLAIN.search(everything_kept(client))
    again = client.post(page("gatewaytoken", "add"), {"name": "bob", "virtual_key": alice.pk})
    assert "already" in again.content.decode()
    listed = client.get(page("gatewaytoken", "changelist"), {"q": token.last}).content.decode()
    assert ">bob</a>" in listed
    assert str(token) in listed
    chosen = {"action": "revoke", "_selected_action": token.pk}
    client.post(page("gatewaytoken", "changelist"), chosen)
    assert opened_by(shown(response)).revoked_at is None
    client.post(page("gatewaytoken", "changelist"), chosen | {"confirmed": "yes"})
    token.refresh_from_db()
    assert token.revoked_at
    assert client.get(page("gatewaytoken", "change", token.pk)).status_code == 200


@pytest.mark.parametrize("model", ["customer", "team"])
def test_customers_and_teams_are_paused_and_resumed(alice_may_everything, model):
    alice, _ = make_key()
    subject = getattr(alice, model)
    for action, paused in (("pause", True), ("resume", False)):
        alice_may_everything.post(page(model, "changelist"), {"action": action, "_selected_action": subject.pk})
        subject.refresh_from_db()
        assert subject.paused is paused


def test_a_key_shows_that_its_customer_is_paused(alice_may_everything):
    make_key()
    Customer.objects.update(paused=True)
    assert b"customer paused" in alice_may_everything.get(page("virtualkey", "changelist")).content


def test_the_whole_gateway_is_paused_on_its_one_page(alice_may_everything):
    Gateway.objects.get_or_create(id=1)
    address = alice_may_everything.get(page("gateway", "changelist"))["Location"]
    change(alice_may_everything, address, {"paused": "on"})
    assert Gateway.objects.get().paused
    change(alice_may_everything, address, {})
    assert not Gateway.objects.get().paused


def test_the_landing_page_says_how_to_point_a_client_here(client):
    content = client.get("/").content.decode()
    assert "ANTHROPIC_BASE_URL=http://testserver" in content
    assert reverse("admin:index") in content
