"""The pages at /my/: a virtual key signs in there, and a person sees the keys that they own."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from administration.role_names import Role
from administration.roles import giving
from keys import issuing, sign_in
from keys.audit.models import AuditEvent
from keys.models import Team, VirtualKey
from messages_api.callers import quota
from tests.support.issued import make_key
from tests.support.ledger_rows import empty_ledger, make_entry
from usage import request_ids
from usage.models import Budget, Limit, Refusal

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def ledger():
    empty_ledger()


@pytest.fixture
def alice():
    """A key and its plain text."""
    return make_key("alice", owner="alice@example.com")


def sign_in_with(client, plain):
    return client.post("/my/", {"key": plain})


def page_of(client, path="/my/"):
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def refuse(key, reason, message):
    Refusal.objects.create(
        id=request_ids.new_id(),
        refused_at=timezone.now(),
        http_status=429,
        error_type="rate_limit_error",
        reason=reason,
        message=message,
        endpoint="messages",
        virtual_key=key,
        requested_model="claude-opus-5-5",
    )


def test_a_virtual_key_signs_in_and_sees_what_it_has_left_and_used(client, alice):
    key, plain = alice
    bob, _ = make_key("bob")
    Budget.objects.create(virtual_key=key, amount=50)
    Limit.objects.create(team=key.team, kind="rpm", rate=60)
    make_entry(key, at=timezone.now(), cost="1.25")
    make_entry(bob, at=timezone.now(), cost="7.77", model="claude-of-bob")
    refuse(key, "limit", "Too fast, Alice.")
    refuse(bob, "limit", "Too fast, Bob.")
    answer = sign_in_with(client, plain)
    assert (answer.status_code, answer["location"]) == (302, "/my/")
    page = page_of(client)
    for text in ("alice", "Acme / Research", "$1.25", "60 requests a minute", "Too fast, Alice.", "claude-opus-5-5"):
        assert text in page
    assert "$50.00 a month, for this key" in page
    for text in ("bob", "Bob", "$7.77"):
        assert text not in page
    for text in ("curl", "Python", "TypeScript", "Claude Code", "http://testserver/v1/messages"):
        assert text in page


def test_it_shows_what_the_api_answers(client, alice, monkeypatch):
    key, plain = alice
    Budget.objects.create(team=key.team, amount=50)
    asked, real = [], quota.shown

    def noted(*given):
        asked.append(real(*given))
        return asked[-1]

    monkeypatch.setattr(quota, "shown", noted)
    sign_in_with(client, plain)
    context = client.get("/my/").context
    assert [context["quota"]] == asked
    assert [budget.left for budget in context["budgets"]] == [Decimal(each["left"]) for each in asked[0]["budgets"]]


def test_the_sum_of_its_days_and_of_its_models_is_the_same(client, alice):
    key, plain = alice
    for days, model in ((0, "a"), (3, "b"), (3, "a"), (29, "b"), (31, "c")):
        make_entry(key, at=timezone.now() - timedelta(days=days), cost="1.50", model=model)
    sign_in_with(client, plain)
    usage = client.get("/my/").context["usage"]
    assert len(usage.days) == 30
    assert sum(used.cost for used in usage.days.values()) == usage.total.cost == Decimal(6)
    assert {model: used.calls for model, used in usage.models} == {"a": 2, "b": 2}


def test_the_key_is_in_no_cookie_url_page_log_or_table(client, alice, caplog):
    _, plain = alice
    caplog.set_level(logging.DEBUG)
    answer = sign_in_with(client, plain)
    page = page_of(client)
    wrong = sign_in_with(Client(), plain[:-1] + ("a" if plain[-1] != "a" else "b")).content.decode()
    assert plain not in answer["location"] + page + wrong + caplog.text + str(client.cookies)
    assert plain[:-1] not in wrong + caplog.text
    stored = [str(session.get_decoded()) for session in Session.objects.all()]
    events = [str(event) for event in AuditEvent.objects.values("object", "about", "changes", "action")]
    assert stored
    assert plain[8:-1] not in "".join([*stored, *events])


def test_its_cookie_is_of_its_own_and_opens_no_page_of_the_administration(client, alice, settings):
    _, plain = alice
    cookie = sign_in_with(client, plain).cookies[settings.MEMBER_COOKIE_NAME]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["domain"]) == (True, "Lax", "/", "")
    stranger = Client()
    stranger.cookies[settings.SESSION_COOKIE_NAME] = cookie.value
    assert stranger.get("/admin/").status_code == 302
    assert client.get("/admin/").status_code == 302


def test_behind_tls_the_cookie_is_secure(client, alice, settings):
    settings.SESSION_COOKIE_SECURE = True
    settings.MEMBER_COOKIE_NAME = "__Host-member"
    _, plain = alice
    assert sign_in_with(client, plain).cookies["__Host-member"]["secure"] is True


def test_a_session_of_the_administration_is_none_of_a_key(client, alice, settings):
    client.force_login(User.objects.create_user("boss"))
    stranger = Client()
    stranger.cookies[settings.MEMBER_COOKIE_NAME] = client.cookies[settings.SESSION_COOKIE_NAME].value
    assert 'name="key"' in page_of(stranger)


def test_a_secret_that_a_rotation_has_ended_is_said_to_be_replaced(client, alice):
    key, plain = alice
    sign_in_with(client, plain)
    issuing.rotate(key, timedelta(0))
    for page in (page_of(client), sign_in_with(Client(), plain).content.decode()):
        assert "This secret was replaced: the virtual key was rotated. Ask for the new one." in page


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"revoked_at": timezone.now() - timedelta(seconds=1)}, "was revoked"),
        ({"expires_at": timezone.now() - timedelta(seconds=1)}, "has expired"),
    ],
)
def test_the_end_of_a_key_ends_its_sessions_and_it_opens_no_other(client, alice, end, said):
    key, plain = alice
    sign_in_with(client, plain)
    VirtualKey.objects.filter(pk=key.pk).update(**end)
    page = page_of(client)
    assert said in page
    assert "Your session has ended." in page
    assert not Session.objects.exists()
    again = sign_in_with(Client(), plain)
    assert again.status_code == 403
    assert said in again.content.decode()


def test_a_rotated_secret_ends_its_own_sessions_only(client, alice):
    key, plain = alice
    sign_in_with(client, plain)
    newer = issuing.rotate(key, timedelta(0))
    assert "Your session has ended." in page_of(client)
    sign_in_with(client, newer)
    assert "Spent this month" in page_of(client)


def test_a_paused_key_still_shows_its_page_and_says_so(client, alice):
    key, plain = alice
    Team.objects.filter(pk=key.team_id).update(paused=True)
    sign_in_with(client, plain)
    assert "The team is paused" in page_of(client)


def test_a_gateway_token_opens_the_page_of_its_virtual_key(client, alice):
    key, _ = alice
    plain = issuing.issue_gateway_token("laptop", key)
    sign_in_with(client, plain)
    assert "alice" in page_of(client)


def test_a_session_is_short_and_signing_out_ends_it(client, alice):
    _, plain = alice
    sign_in_with(client, plain)
    assert Session.objects.get().expire_date <= timezone.now() + timedelta(hours=1)
    assert client.post("/my/sign-out/").status_code == 302
    assert not Session.objects.exists()
    assert 'name="key"' in page_of(client)
    sign_in_with(client, plain)
    Session.objects.update(expire_date=timezone.now())
    assert 'name="key"' in page_of(client)


@pytest.mark.parametrize("text", ["sk-ant-api03-" + "x" * 40, "sk-bf-short", "x", "\0", "sk-bf-" + "é" * 49])
def test_what_is_no_key_is_refused_in_words(client, text):
    answer = sign_in_with(client, text)
    assert answer.status_code in (400, 403)
    assert 'role="alert"' in answer.content.decode()
    assert text == "x" or text not in answer.content.decode()


def test_guesses_are_slowed_by_network_and_a_right_key_from_there_still_works(client, alice):
    _, plain = alice
    wrong = plain[:-1] + ("a" if plain[-1] != "a" else "b")
    codes = [sign_in_with(client, wrong).status_code for _ in range(sign_in.NETWORK.failures + 2)]
    assert codes == [403] * sign_in.NETWORK.failures + [429] * 2
    refused = sign_in_with(client, wrong)
    assert int(refused["retry-after"]) > 0
    assert "Too many failed attempts to sign in." in refused.content.decode()
    elsewhere = Client(REMOTE_ADDR="192.0.2.7")
    assert sign_in_with(elsewhere, wrong).status_code == 403
    assert sign_in_with(client, plain).status_code == 302


def test_the_sessions_that_a_key_opens_are_bounded(client, alice, monkeypatch):
    _, plain = alice
    monkeypatch.setattr(sign_in, "KEY_SESSIONS", sign_in.FailureLimit(failures=3, seconds=60))
    codes = [sign_in_with(Client(REMOTE_ADDR=f"192.0.2.{at}"), plain).status_code for at in range(5)]
    assert codes == [302] * 3 + [429] * 2
    assert Session.objects.count() == 3
    assert AuditEvent.objects.filter(action="signed in").count() == 3
    _, other = make_key("bob")
    assert sign_in_with(client, other).status_code == 302


def test_sign_ins_and_failures_are_in_the_audit_log(client, alice):
    key, plain = alice
    sign_in_with(client, "sk-bf-wrong")
    sign_in_with(client, plain)
    events = AuditEvent.objects.filter(action__in=["failed to sign in", "signed in"]).order_by("id")
    assert list(events.values_list("action", "table_name", "object")) == [
        ("failed to sign in", "auth_user", ""),
        ("signed in", "keys_virtualkey", str(key.pk)),
    ]


def test_a_member_sees_own_keys_by_the_sign_in_of_the_administration(client, alice):
    key, _ = alice
    bob, _ = make_key("bob", owner="bob")
    member = User.objects.create_user("alice", email="Alice@Example.com")
    giving.give(None, member, Role.MEMBER)
    client.force_login(member)
    assert "alice" in page_of(client)
    assert client.get(f"/my/{bob.pk}/").status_code == 404
    second, _ = make_key("alice-2", owner="alice")
    page = page_of(client)
    assert f"/my/{key.pk}/" in page
    assert f"/my/{second.pk}/" in page
    assert "bob" not in page
    assert "alice-2" in page_of(client, f"/my/{second.pk}/")


def test_an_owner_of_the_gateway_sees_only_own_keys_here(client, alice):
    key, _ = alice
    client.force_login(User.objects.create_superuser("boss"))
    assert "names you as its owner" in page_of(client)
    assert client.get(f"/my/{key.pk}/").status_code == 404


def test_no_cache_keeps_a_page_and_no_script_or_style_is_inline(client, alice):
    _, plain = alice
    answer = sign_in_with(client, plain)
    page = client.get("/my/")
    assert answer["cache-control"] == page["cache-control"] == "no-store"
    assert "unsafe" not in page["content-security-policy"]
    text = page.content.decode()
    assert not re.search(r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son\w+=", text)


def test_the_page_takes_a_fixed_number_of_queries(client, alice, django_assert_max_num_queries):
    key, plain = alice
    sign_in_with(client, plain)
    with django_assert_max_num_queries(14):
        client.get("/my/")
    for number in range(5):
        Budget.objects.create(virtual_key=key, amount=50, model_patterns=[f"m-{number}"])
        refuse(key, "limit", "Too fast.")
        make_entry(key, at=timezone.now() - timedelta(days=number))
    with django_assert_max_num_queries(14):
        client.get("/my/")
