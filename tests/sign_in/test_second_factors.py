"""Second factors: asked for at every way in, used once, counted, encrypted, and demanded of roles."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client
from django.urls import reverse

from administration.role_names import Role
from administration.roles import giving
from administration.sign_in import lost, passkey_forms, single_sign_on
from keys import keyring, sign_in
from keys.audit.models import AuditEvent
from keys.models import SignInCount
from tests.admin.test_page_security import INLINE
from tests.support.rest import Program, error
from tests.support.signing_in import PASSWORD, SECRET, actions, code, give_code, give_password, is_inside, wrong

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cheap_and_own_secrets")]


def test_a_password_alone_is_not_enough_and_the_code_leads_on(client: Client, app: Authenticator) -> None:
    assert give_password(client, "/admin/calls/").headers["location"] == reverse("mfa_authenticate")
    assert not is_inside(client)
    assert client.get(reverse("account")).status_code == 302
    before = client.session.session_key
    assert give_code(client, f" {code()[:3]} {code()[3:]}").headers["location"] == "/admin/calls/"
    assert is_inside(client)
    assert client.session.session_key != before
    assert actions()[-1] == "signed in"


def test_the_login_of_the_admin_and_that_of_allauth_are_one(client: Client, app: Authenticator) -> None:
    assert reverse("account_login") == reverse("admin:login")
    assert client.get("/admin/keys/team/").headers["location"].startswith(reverse("admin:login"))
    assert client.get("/accounts/login/").status_code == 404


@pytest.mark.usefixtures("app")
def test_a_code_works_once_also_in_another_browser(client: Client) -> None:
    shown = code()
    give_password(client)
    assert give_code(client, shown).status_code == 302
    other = Client()
    give_password(other)
    assert give_code(other, shown).status_code == 200
    assert not is_inside(other)
    assert give_code(other, code(steps=1)).status_code == 302


@pytest.mark.usefixtures("app")
def test_a_password_between_guesses_of_a_code_clears_nothing(client: Client) -> None:
    statuses = []
    for _ in range(sign_in.PAIR.failures + 1):
        assert give_password(client).status_code == 302
        statuses.append(give_code(client, wrong()).status_code)
        client = Client()
    assert statuses == [200] * sign_in.PAIR.failures + [429]
    give_password(client)
    assert give_code(client, code()).status_code == 429
    assert actions().count("failed to prove a second factor") == sign_in.PAIR.failures
    assert actions().count("refused a second factor") == 1


@pytest.mark.django_db(transaction=True)
def test_of_twenty_codes_at_once_twenty_count(alice: User, app: Authenticator, settings: Any) -> None:
    visitors = [Client(REMOTE_ADDR="198.51.100.7") for _ in range(20)]
    for visitor in visitors:
        give_password(visitor)
    SignInCount.objects.all().delete()

    def guess(visitor: Client) -> int:
        try:
            return int(give_code(visitor, wrong()).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(pool.map(guess, visitors))
    assert statuses == [200] * sign_in.PAIR.failures + [429] * (20 - sign_in.PAIR.failures)


@pytest.mark.usefixtures("app")
def test_many_networks_together_guess_few_codes(alice: User) -> None:
    for number in range(sign_in.CODES.user.failures):
        sign_in.count("alice", f"198.51.{number}.1", sign_in.CODES)
    with pytest.raises(sign_in.Refused):
        sign_in.count("alice", "203.0.113.9", sign_in.CODES)
    sign_in.count("alice", "203.0.113.9", sign_in.PASSWORDS)


def test_a_recovery_code_replaces_the_app_once(client: Client, alice: User, app: Authenticator) -> None:
    first = RecoveryCodes.activate(alice).get_unused_codes()[0]
    give_password(client)
    assert give_code(client, first).status_code == 302
    other = Client()
    give_password(other)
    assert give_code(other, first).status_code == 200
    assert "changed" in actions("mfa_authenticator")


def test_secrets_are_stored_encrypted_and_follow_a_new_master_key(alice: User, app: Authenticator) -> None:
    codes = RecoveryCodes.activate(alice).get_unused_codes()
    stored = list(Authenticator.objects.order_by("pk").values_list("data", flat=True))
    assert SECRET not in json.dumps(stored)
    assert keyring.decrypt(stored[0]["secret"].encode()) == SECRET
    call_command("rotate_master_key")
    now = list(Authenticator.objects.order_by("pk"))
    assert now[0].data["secret"] != stored[0]["secret"]
    newest = keyring._lines("master_keys")[0]
    assert Fernet(newest).decrypt(now[0].data["secret"].encode()).decode() == SECRET
    assert now[1].wrap().get_unused_codes() == codes
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(changes::text, ' ') FROM keys_auditevent")
        (logged,) = cursor.fetchone()
    assert SECRET not in logged
    assert stored[0]["secret"] not in logged


def test_a_person_sets_up_an_app_and_it_is_asked_for_from_then_on(client: Client, alice: User) -> None:
    elsewhere = Client()
    give_password(elsewhere)
    give_password(client)
    page = client.get(reverse("mfa_activate_totp"))
    assert page.headers["cache-control"] == "no-store"
    secret = page.context["form"].secret
    assert secret in page.content.decode()
    assert secret not in json.dumps(dict(client.session))
    assert client.post(reverse("mfa_activate_totp"), {"code": wrong()}).status_code == 200
    answer = client.post(reverse("mfa_activate_totp"), {"code": code(secret)})
    assert answer.headers["location"] == reverse("mfa_view_recovery_codes")
    shown = client.get(answer.headers["location"]).content.decode()
    assert len(re.findall(r"<li>\d{8}</li>", shown)) == 10
    assert not re.search(r"<li>\d{8}</li>", client.get(answer.headers["location"]).content.decode())
    assert not is_inside(elsewhere)
    assert "session ended" in actions()
    assert actions("mfa_authenticator") == ["added", "added", "changed"]
    other = Client()
    assert give_password(other).headers["location"] == reverse("mfa_authenticate")
    assert give_code(other, code(secret)).status_code == 200  # the code that set it up
    assert give_code(other, code(secret, 1)).status_code == 302


def test_a_change_of_a_second_factor_needs_another_proof(client: Client, alice: User, app: Authenticator) -> None:
    give_password(client)
    give_code(client, code())
    session = client.session
    session["account_authentication_methods"] = [
        record | {"at": time.time() - 3600} for record in session["account_authentication_methods"]
    ]
    session.save()
    answer = client.post(reverse("mfa_deactivate_totp"))
    assert answer.headers["location"].startswith(reverse("account_reauthenticate"))
    assert "account_reauthentication_state" not in client.session  # no body of a request, no cookies
    assert Authenticator.objects.count() == 1
    again = {"next": reverse("mfa_deactivate_totp")}
    assert client.post(reverse("account_reauthenticate"), again | {"password": "wrong"}).status_code == 200
    answer = client.post(reverse("account_reauthenticate"), again | {"password": PASSWORD})
    assert answer.headers["location"] == reverse("mfa_deactivate_totp")
    client.post(reverse("mfa_deactivate_totp"))
    assert Authenticator.objects.count() == 0
    assert actions("mfa_authenticator")[-1] == "deleted"


def test_wrong_passwords_to_prove_oneself_count_as_failures_to_sign_in(client: Client, alice: User) -> None:
    give_password(client)
    path = reverse("account_reauthenticate")
    statuses = [client.post(path, {"password": "wrong"}).status_code for _ in range(sign_in.PAIR.failures + 1)]
    assert statuses == [200] * sign_in.PAIR.failures + [429]


def test_a_demanded_second_factor_is_set_up_before_anything_else(
    client: Client, alice: User, demand: Callable[..., None]
) -> None:
    demand("owner")
    give_password(client)
    for path in ("/admin/", "/admin/keys/team/", "/admin/password_change/", "/admin/account/sessions/", "/admin/no/"):
        assert client.get(path).headers["location"] == reverse("account"), path
        assert client.post(path).headers["location"] == reverse("account"), path
    assert "needs a second factor" in client.get(reverse("account")).content.decode()
    secret = client.get(reverse("mfa_activate_totp")).context["form"].secret
    client.post(reverse("mfa_activate_totp"), {"code": code(secret)})
    assert is_inside(client)
    other = Client()
    give_password(other)
    assert not is_inside(other)
    give_code(other, code(secret, 1))
    assert is_inside(other)
    lost.remove_second_factors(alice)
    give_password(other)
    assert not is_inside(other)


def test_an_older_session_proves_the_demanded_second_factor(
    client: Client, alice: User, app: Authenticator, demand: Callable[..., None]
) -> None:
    client.force_login(alice, "django.contrib.auth.backends.ModelBackend")
    assert is_inside(client)
    demand("all")
    answer = client.get("/admin/keys/team/")
    assert answer.headers["location"].startswith(reverse("mfa_reauthenticate"))
    again = {"code": code(), "next": "/admin/keys/team/"}
    assert client.post(reverse("mfa_reauthenticate"), again).headers["location"] == "/admin/keys/team/"
    assert is_inside(client)


def test_a_session_without_the_proof_changes_no_second_factor(
    client: Client, alice: User, demand: Callable[..., None]
) -> None:
    demand("all")
    give_password(client)
    TOTP.activate(alice, SECRET)
    RecoveryCodes.activate(alice)
    names = ("account", "mfa_activate_totp", "mfa_add_webauthn", "mfa_view_recovery_codes")
    for name in (*names, "mfa_generate_recovery_codes", "account_reauthenticate"):
        for answer in (client.get(reverse(name)), client.post(reverse(name))):
            assert answer.headers["location"].startswith(reverse("mfa_reauthenticate")), name
    client.post(reverse("mfa_reauthenticate"), {"code": code()})
    assert client.get(reverse("account")).status_code == 200


def test_only_the_roles_that_are_named_need_a_second_factor(client: Client, demand: Callable[..., None]) -> None:
    demand("owner", "key_admin")
    User.objects.create_superuser("boss")
    for role, inside in ((Role.FINANCE, True), (Role.KEY_ADMIN, False)):
        person = User.objects.create_user(role.value)
        giving.give(None, person, role)
        client.force_login(person, "django.contrib.auth.backends.ModelBackend")
        assert is_inside(client) is inside


def test_an_owner_removes_lost_second_factors_but_not_their_own_that_way(
    client: Client, alice: User, app: Authenticator
) -> None:
    boss = User.objects.create_superuser("boss")
    TOTP.activate(boss, SECRET)
    client.force_login(boss, "django.contrib.auth.backends.ModelBackend")
    form = {"action": "remove_second_factors", "_selected_action": [alice.pk, boss.pk]}
    client.post(reverse("admin:administration_person_changelist"), form)
    assert [each.user for each in Authenticator.objects.all()] == [boss]
    call_command("remove_second_factors", "boss")
    assert not Authenticator.objects.exists()


NO_PASSKEYS = (
    *("", "{}", "[]", "7", '{"id": 1}', '{"response": {"userHandle": "__"}}'),
    '{"id": "a", "rawId": "a", "response": {}}',
)


@pytest.mark.parametrize("credential", NO_PASSKEYS)
def test_what_is_no_passkey_is_refused(client: Client, alice: User, credential: str) -> None:
    options = client.get(reverse("mfa_login_webauthn"), headers={"accept": "application/json"}).json()
    assert options["request_options"]["publicKey"]["userVerification"] == "required"
    path = reverse("mfa_login_webauthn")
    assert client.post(path, {"credential": credential}).headers["location"] == reverse("admin:login")
    assert not is_inside(client)
    give_password(client)
    answer = client.post(reverse("mfa_add_webauthn"), {"credential": credential, "name": "x"})
    assert answer.status_code == 200
    assert not Authenticator.objects.exists()


def test_failed_passkeys_of_a_network_are_limited(client: Client) -> None:
    path = reverse("mfa_login_webauthn")
    given = {"credential": '{"id": 1}'}
    statuses = [client.post(path, given).status_code for _ in range(sign_in.NETWORK.failures + 1)]
    assert statuses == [302] * sign_in.NETWORK.failures + [429]
    assert actions().count("failed to sign in") == sign_in.NETWORK.failures


def test_what_has_no_passkey_at_all_counts_and_stores_no_more_sessions_than_failures() -> None:
    path = reverse("mfa_login_webauthn")
    statuses = [Client().post(path).status_code for _ in range(sign_in.NETWORK.failures + 3)]
    assert statuses == [302] * sign_in.NETWORK.failures + [429] * 3
    assert Session.objects.count() == sign_in.NETWORK.failures


def test_the_name_of_a_passkey_stays_short_when_it_changes(client: Client, alice: User) -> None:
    give_password(client)
    data = {"name": "Phone", "credential": {}}
    passkey = Authenticator.objects.create(user=alice, type=Authenticator.Type.WEBAUTHN, data=data)
    page = reverse("mfa_edit_webauthn", args=[passkey.pk])
    assert client.post(page, {"name": "x" * (passkey_forms.NAME_LENGTH + 1)}).status_code == 200
    assert client.post(page, {"name": "x" * passkey_forms.NAME_LENGTH}).status_code == 302
    passkey.refresh_from_db()
    assert passkey.data["name"] == "x" * passkey_forms.NAME_LENGTH


def test_no_page_of_sign_in_has_an_inline_script_or_style(client: Client, alice: User, settings: Any) -> None:
    settings.EMAIL_HOST = "mail.example.com"
    strangers = ("admin:login", "forgotten_password")
    answers = [client.get(reverse(name), headers={"host": "localhost"}) for name in strangers]
    give_password(client)
    own = ("account", "usersessions_list", "mfa_activate_totp", "mfa_add_webauthn", "account_reauthenticate")
    answers += [client.get(reverse(name)) for name in own]
    TOTP.activate(alice, SECRET)
    RecoveryCodes.activate(alice)
    codes = ("mfa_view_recovery_codes", "mfa_generate_recovery_codes")
    own = ("account", "mfa_deactivate_totp", "mfa_reauthenticate", *codes)
    answers += [client.get(reverse(name)) for name in own]
    other = Client()
    give_password(other)
    answers.append(other.get(reverse("mfa_authenticate")))
    for answer in answers:
        assert answer.status_code == 200, answer.request["PATH_INFO"]
        assert not INLINE.search(answer.content.decode()), answer.request["PATH_INFO"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert re.search(r"<h1>[^<]+</h1>", answer.content.decode()) or "login" in answer.request["PATH_INFO"]
        assert "no-store" in answer.headers["cache-control"] or "login" in answer.request["PATH_INFO"]


def test_tokens_of_the_rest_api_need_the_second_factor_that_is_demanded(
    client: Client, alice: User, demand: Callable[..., None], settings: Any
) -> None:
    before = Program(alice, name="before")
    assert before.ask("GET", "customers").status_code == 200
    demand(Role.OWNER)
    refused = error(before.ask("GET", "customers"), 403, "forbidden")
    assert "alice needs a second factor" in refused["message"]
    assert AuditEvent.objects.filter(actor_kind="token").count() == 0
    with pytest.raises(CommandError, match="alice needs a second factor"):
        call_command("issue_api_token", "new", user="alice")
    give_password(client)
    page = reverse("admin:administration_apitoken_add")
    assert client.get(page).headers["location"] == reverse("account")
    dave = User.objects.create_user("dave")
    giving.give(None, dave, Role.FINANCE)
    assert Program(dave).ask("GET", "customers").status_code == 200, "no second factor is demanded of finance"
    totp = TOTP.activate(alice, SECRET)
    assert before.ask("GET", "customers").status_code == 200
    assert Program(alice, name="after").ask("GET", "customers").status_code == 200
    totp.instance.delete()
    error(before.ask("GET", "customers"), 403, "forbidden")
    known = {"oidc_issuer": "https://sso.example.com", "oidc_is_second_factor": True}
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update=known)
    error(before.ask("GET", "customers"), 403, "forbidden")
    single_sign_on.link(alice, "alice-1")
    assert before.ask("GET", "customers").status_code == 200, "the provider asks for the second factor"
