"""Tokens of the REST API: never more than their person may do, never longer than they are valid."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from administration.models import ApiToken
from administration.rest import tokens
from keys.audit.models import AuditEvent
from keys.audit.words import Words
from keys.errors import Unusable
from keys.models import Customer
from tests.support.rest import Program, error


def test_a_token_is_stored_as_a_digest_only(program):
    row = ApiToken.objects.get()
    assert program.plain.startswith("sk-ba-")
    assert program.plain not in str(vars(row))
    assert row.ends == f"{program.plain[:9]}…{program.plain[-4:]}"


@pytest.mark.parametrize("sent", ["", "Basic abc", "Bearer", "Bearer sk-ba-nothing", "Bearer {}x", "Token {}"])
def test_a_request_without_a_valid_token_gets_a_401(program, sent):
    answer = program.client.get("/api/v1/me", headers={"authorization": sent.format(program.plain)})
    error(answer, 401, "unauthenticated")
    assert answer["www-authenticate"] == "Bearer"


def test_a_token_ends_with_its_expiry_its_revocation_and_its_person(program):
    assert program.ask("GET", "me").status_code == 200
    ApiToken.objects.update(expires_at=timezone.now())
    error(program.ask("GET", "me"), 401, "unauthenticated")
    ApiToken.objects.update(expires_at=timezone.now() + timedelta(days=1))
    User.objects.create_superuser("another owner")
    owner = User.objects.filter(username="boss")
    owner.update(is_active=False)
    error(program.ask("GET", "me"), 401, "unauthenticated")
    owner.update(is_active=True)
    assert program.ask("GET", "me").status_code == 200
    tokens.revoke(program.token)
    error(program.ask("GET", "me"), 401, "unauthenticated")


def test_a_cookie_of_a_session_is_no_token(program):
    program.client.force_login(program.user)
    error(program.client.get("/api/v1/me"), 401, "unauthenticated")


def test_a_token_names_itself_and_its_last_use_is_noted(program):
    shown = program.get("me")
    assert shown["person"] == "boss"
    assert shown["scopes"] == ["all:write"]
    row = ApiToken.objects.get()
    assert row.last_used_at is not None
    assert row.last_used_from == "127.0.0.1"


@pytest.mark.parametrize(
    ("scope", "read", "write"),
    [
        ("customers:read", 200, 403),
        ("customers:write", 200, 201),
        ("all:read", 200, 403),
        ("teams:write", 403, 403),
    ],
)
def test_a_token_may_do_what_its_scopes_say(boss, scope, read, write):
    program = Program(boss, scope)
    assert program.ask("GET", "customers").status_code == read
    assert program.ask("POST", "customers", {"name": "Acme"}).status_code == write


def test_a_token_may_do_no_more_than_its_person(db):
    Customer.objects.create(name="Acme")
    alice = User.objects.create_user("alice", is_staff=True)
    program = Program(alice)
    error(program.ask("GET", "customers"), 403, "forbidden")
    error(program.ask("POST", "customers", {"name": "Globex"}), 403, "forbidden")
    assert Customer.objects.count() == 1


def test_wrong_tokens_are_refused_for_a_while_and_right_ones_never(program):
    wrong = {"authorization": "Bearer " + program.plain[:-7] + "000000x"}
    statuses = [program.client.get("/api/v1/me", headers=wrong).status_code for _ in range(32)]
    assert statuses == [401] * 30 + [429] * 2
    refused = program.client.get("/api/v1/me", headers=wrong)
    error(refused, 429, "too_many_failures")
    assert int(refused["retry-after"]) > 0
    assert program.ask("GET", "me").status_code == 200


def test_changes_stand_under_the_token_and_its_person_in_the_audit_log(program):
    program.post("customers", {"name": "Acme"})
    event = AuditEvent.objects.filter(table_name="keys_customer").latest("id")
    assert (event.actor_kind, event.actor_id) == ("token", program.user.pk)
    assert Words([event]).who(event) == f"boss, by API token {program.token.ends}"
    [shown] = program.get("audit?table=keys_customer")["data"]
    assert shown["actor"] == f"boss, by API token {program.token.ends}"
    assert shown["actor_kind"] == "token"


def test_the_making_of_a_token_is_in_the_audit_log_without_its_digest(program):
    event = AuditEvent.objects.filter(table_name="administration_apitoken").latest("id")
    assert event.changes["digest"] == {"to": {"secret": True}}
    assert program.plain not in str(event.changes)


def test_a_command_makes_the_first_token(boss):
    out, said = io.StringIO(), io.StringIO()
    call_command("issue_api_token", "ci", user="boss", scope=["teams:write"], stdout=out, stderr=said)
    token = tokens.find(out.getvalue().strip())
    assert token is not None
    assert (token.user, token.scopes) == (boss, ["teams:write"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"user": "nobody"}, "there is no user"),
        ({"user": "boss", "scope": ["teams:fly"]}, "there is no scope"),
        ({"user": "boss", "expires": "367d"}, "at most 366 days"),
        ({"user": "boss", "expires": "0"}, "in the past"),
    ],
)
def test_a_command_refuses_what_no_token_can_be(boss, options, said):
    with pytest.raises(CommandError, match=said):
        call_command("issue_api_token", "ci", **options)
    assert not ApiToken.objects.exists()


def test_a_persons_tokens_have_different_names(program):
    with pytest.raises(Unusable, match="already has a token"):
        tokens.issue(program.user, "terraform", ["all:read"], timezone.now() + timedelta(days=1))


def test_the_page_makes_a_token_shows_it_once_and_revokes_it(client, boss):
    client.force_login(boss)
    expires = timezone.now() + timedelta(days=30)
    form = {
        "name": "report",
        "scopes": ["calls:read", "all:read"],
        "expires_at": f"{expires:%Y-%m-%dT%H:%M}",
    }
    answer = client.post("/admin/administration/apitoken/add/", form)
    assert answer.status_code == 200, answer
    token = ApiToken.objects.get()
    plain = next(
        word for word in answer.content.decode().replace("<", " ").replace(">", " ").split() if "sk-ba-" in word
    )
    assert tokens.find(plain) == token
    assert token.scopes == ["all:read", "calls:read"]
    listed = client.get("/admin/administration/apitoken/").content.decode()
    assert token.ends in listed
    assert plain not in listed
    revoke = {"action": "revoke", "_selected_action": [token.pk], "confirmed": "yes"}
    client.post("/admin/administration/apitoken/", revoke)
    assert tokens.find(plain) is None


def test_a_person_sees_only_their_own_tokens_on_the_page(client, program):
    alice = User.objects.create_user("alice", is_staff=True)
    Program(alice, name="alices-own")
    client.force_login(alice)
    listed = client.get("/admin/administration/apitoken/").content.decode()
    assert "alices-own" in listed
    assert program.token.ends not in listed
