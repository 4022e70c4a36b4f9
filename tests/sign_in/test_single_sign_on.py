"""Single sign-on: who the provider says someone is, what it may decide, and what it may not."""

from __future__ import annotations

import html
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from administration.role_names import Role
from administration.roles import giving
from keys.audit.models import AuditEvent
from keys.models import Customer, SignInCount, Team
from tests.support.oidc_provider import Provider
from tests.support.single_sign_on import Configure, begin, events, failed, person, roles, sign_in

pytestmark = pytest.mark.django_db


def test_a_new_person_is_added_once_without_a_password_or_a_role(client: Client, provider: Provider) -> None:
    answer = sign_in(client, provider, "/admin/calls/")
    assert answer.headers["location"] == "/admin/calls/"
    iris = person(client)
    assert iris is not None
    assert (iris.username, iris.email, iris.first_name) == ("iris@example.com", "iris@example.com", "Iris")
    assert not iris.has_usable_password()
    assert not iris.is_staff
    assert not roles(iris)
    assert events()[-1] == "signed in"
    again = Client()
    sign_in(again, provider)
    assert person(again) == iris
    assert User.objects.count() == 1
    assert "may not see this page" in again.get("/admin/", follow=True).content.decode()


def test_strangers_are_refused_where_people_are_added_by_hand(
    client: Client, provider: Provider, configure: Configure
) -> None:
    configure(oidc_creates_people=False)
    answer = sign_in(client, provider)
    failed(client, answer)
    assert "not here" in client.get(answer.headers["location"]).content.decode()
    assert events() == ["failed to sign in"]
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("token", "more"),
    [
        ({"iss": "https://other.example"}, {}),
        ({"aud": "another client"}, {}),
        ({"aud": ["bursar", "another client"]}, {}),
        ({"aud": ["bursar", "x"], "azp": "x"}, {}),
        ({"exp": 1}, {}),
        ({"nonce": "of another sign-in"}, {}),
        ({"nonce": None}, {}),
        ({"sub": ""}, {}),
        ({"sub": "x" * 500}, {}),
        ({}, {"sub": "someone else"}),
    ],
)
def test_a_token_that_is_not_for_this_sign_in_is_refused(
    client: Client, provider: Provider, token: dict[str, Any], more: dict[str, Any]
) -> None:
    provider.token, provider.more = token, more
    failed(client, sign_in(client, provider))
    assert not User.objects.exists()


@pytest.mark.parametrize("kind", ["another key", "none", "the public key as a secret"])
def test_a_signature_of_another_key_is_refused(client: Client, provider: Provider, kind: str) -> None:
    if kind == "another key":
        provider.signs_with = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    elif kind == "none":
        provider.signs_with, provider.algorithm = None, "none"
    else:
        provider.signs_with, provider.algorithm = json.dumps(provider.keys()["keys"][0]), "HS256"
    failed(client, sign_in(client, provider))


def test_a_code_works_in_the_browser_that_asked_for_it_and_once(client: Client, provider: Provider) -> None:
    given = provider.authorize(begin(client))
    stranger = Client()
    failed(stranger, stranger.get(reverse("openid_connect_callback"), given))
    begin(stranger)
    failed(stranger, stranger.get(reverse("openid_connect_callback"), given))
    assert client.get(reverse("openid_connect_callback"), given).headers["location"] == "/admin/"
    failed(stranger, stranger.get(reverse("openid_connect_callback"), given))
    client.get(reverse("openid_connect_callback"), given)
    assert User.objects.count() == 1


def test_an_answer_of_another_provider_or_a_refusal_is_no_sign_in(client: Client, provider: Provider) -> None:
    failed(client, sign_in(client, provider, iss="https://other.example"))
    state = parse_qs(urlsplit(begin(client)).query)["state"][0]
    failed(client, client.get(reverse("openid_connect_callback"), {"state": state, "error": "access_denied"}))


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "https://other.example"},
        {"token_endpoint": "http://203.0.113.7/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": None},
        {"userinfo_endpoint": "http://169.254.169.254/"},
    ],
)
def test_a_provider_that_describes_itself_wrongly_is_not_used(
    client: Client, provider: Provider, discovery: dict[str, Any]
) -> None:
    provider.discovery = discovery
    answer = client.get(reverse("single_sign_on"))
    assert answer.headers["location"] == reverse("admin:login")


@pytest.mark.parametrize(
    "where", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_it_leads_on_to_ourselves_only(client: Client, provider: Provider, where: str) -> None:
    assert sign_in(client, provider, where).headers["location"] == "/admin/"


def test_roles_follow_groups_and_those_given_by_hand_stay(
    client: Client, provider: Provider, configure: Configure
) -> None:
    acme = Customer.objects.create(name="Acme")
    Team.objects.create(customer=acme, name="Research")
    configure(
        oidc_roles={
            "finance": "finance",
            "acme": {"role": "key_admin", "customer": "Acme"},
            "research": [{"role": "team_admin", "team": "Acme/Research"}, "member"],
            "gone": {"role": "key_admin", "customer": "No such customer"},
        }
    )
    provider.person["groups"] = ["finance", "research", "gone", "unknown", 7]
    sign_in(client, provider)
    iris = person(client)
    assert iris is not None
    assert iris.is_staff
    by_groups = {
        "Finance of everything",
        "Team admin of team Acme / Research",
        "Member of the keys that the person owns",
    }
    assert roles(iris) == by_groups
    giving.give(None, iris, Role.AUDITOR)
    giving.give(None, iris, Role.FINANCE)  # by hand too
    provider.person["groups"] = ["acme"]
    sign_in(Client(), provider)
    assert roles(iris) == {"Key admin of customer Acme", "Auditor of everything", "Finance of everything"}
    del provider.person["groups"]
    sign_in(Client(), provider)
    assert roles(iris) == {"Auditor of everything", "Finance of everything"}
    given = AuditEvent.objects.filter(table_name="administration_grant", action="added").first()
    assert given is not None
    assert (given.actor_kind, given.actor) == ("system", "single sign-on")


def test_the_last_owner_stays_though_the_group_is_gone(
    client: Client, provider: Provider, configure: Configure
) -> None:
    configure(oidc_roles={"platform": "owner"})
    provider.person["groups"] = ["platform"]
    sign_in(client, provider)
    iris = person(client)
    assert iris is not None
    provider.person["groups"] = []
    sign_in(Client(), provider)
    assert roles(iris) == {"Owner of everything"}
    User.objects.create_superuser("boss")
    sign_in(Client(), provider)
    assert roles(iris) == set()


def test_a_deactivated_person_stays_outside(client: Client, provider: Provider) -> None:
    sign_in(Client(), provider)
    User.objects.update(is_active=False)
    answer = sign_in(client, provider)
    failed(client, answer)
    assert events()[-1] == "failed to sign in"


@pytest.mark.parametrize(
    ("known_by", "more"),
    [
        ({"username": "Iris", "email": "IRIS@example.com"}, {}),
        ({"username": "iris@example.com"}, {}),
        ({"username": "iris"}, {"email": None, "preferred_username": "Iris"}),
    ],
)
def test_a_deactivated_person_gets_no_other_account(
    client: Client, provider: Provider, configure: Configure, known_by: dict[str, str], more: dict[str, Any]
) -> None:
    configure(oidc_links_by_email=True)
    User.objects.create_user(**known_by, is_active=False)
    provider.person |= more
    answer = sign_in(client, provider)
    failed(client, answer)
    assert "deactivated" in client.get(answer.headers["location"]).content.decode()
    assert User.objects.count() == 1


def test_failures_of_a_network_are_counted(client: Client, provider: Provider, configure: Configure) -> None:
    configure(oidc_creates_people=False)
    answers = [client.get(reverse("openid_connect_callback"), {"state": "x", "code": "y"}) for _ in range(31)]
    assert [answer.status_code for answer in answers] == [302] * 30 + [429]
    SignInCount.objects.all().delete()
    answers = [client.get(reverse("single_sign_on")) for _ in range(61)]
    assert [answer.status_code for answer in answers] == [302] * 60 + [429]


@pytest.mark.parametrize(
    ("offered", "where"),
    [
        ("https://sso.example.com/logout", "https://sso.example.com/logout?"),
        ("https://sso.example.com/logout?realm=main", "https://sso.example.com/logout?realm=main&"),
        ("http://elsewhere.example.com/logout", ""),  # without TLS
        ("javascript:alert(1)", ""),
        (None, ""),
    ],
)
def test_signing_out_offers_to_sign_out_at_the_provider_too(
    client: Client, provider: Provider, offered: str | None, where: str
) -> None:
    provider.discovery = {"end_session_endpoint": offered} if offered else {}
    sign_in(client, provider)
    giving.give(None, person(client), Role.FINANCE)
    answer = client.post(reverse("admin:logout"))
    assert person(client) is None
    assert answer.status_code == 200
    way_out = answer.context["way_out"]
    assert bool(way_out) == bool(where)
    assert way_out.startswith(where)
    if where:
        given = parse_qs(urlsplit(way_out).query)
        assert given["client_id"] == ["bursar"]
        assert given["post_logout_redirect_uri"] == [f"http://testserver{reverse('admin:login')}"]
        assert html.escape(way_out) in answer.content.decode()


def test_a_sign_out_after_a_password_does_not_lead_to_the_provider(client: Client, provider: Provider) -> None:
    provider.discovery = {"end_session_endpoint": "https://sso.example.com/logout"}
    client.force_login(User.objects.create_superuser("boss"))
    page = client.post(reverse("admin:logout"))
    assert page.context["way_out"] == ""
    assert "sso.example.com" not in page.content.decode()
