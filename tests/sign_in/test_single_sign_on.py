"""Single sign-on: who the provider says someone is, what it may decide, and what it may not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.socialaccount.models import SocialAccount
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from administration.models import Grant
from administration.role_names import Role
from administration.roles import giving
from administration.sign_in import lost, oidc, single_sign_on
from keys.audit.models import AuditEvent
from keys.models import Customer, SignInCount, Team
from tests.support import oidc_provider
from tests.support.oidc_provider import Provider

pytestmark = pytest.mark.django_db

Configure = Callable[..., None]


@pytest.fixture
def own_secrets(settings: Any, tmp_path: Any) -> None:
    settings.VAR_DIR = tmp_path


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with oidc_provider.running() as provider:
        yield provider


@pytest.fixture
def provider(running: Provider, settings: Any, own_secrets: None) -> Iterator[Provider]:
    """A provider that Bursar knows, with iris signed in there."""
    known = {"oidc_issuer": running.url, "oidc_client_id": "bursar", "oidc_client_secret": oidc_provider.SECRET}
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={**known, "oidc_creates_people": True})
    running.person = {"sub": "iris", "email": "iris@example.com", "email_verified": True, "given_name": "Iris"}
    oidc._kept.clear()
    yield running
    running.token, running.more, running.discovery = {}, {}, {}
    running.signs_with, running.algorithm = running.key, "RS256"
    oidc._kept.clear()


@pytest.fixture
def configure(settings: Any, provider: Provider) -> Configure:
    def change(**values: Any) -> None:
        settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update=values)

    return change


def begin(client: Client, next: str = "") -> str:
    answer = client.get(reverse("single_sign_on"), {"next": next})
    assert answer.status_code == 302
    return answer.headers["location"]


def sign_in(client: Client, provider: Provider, next: str = "", **changes: str) -> Any:
    given = provider.authorize(begin(client, next)) | changes
    return client.get(reverse("openid_connect_callback"), given)


def person(client: Client) -> User | None:
    key = client.session.get("_auth_user_id")
    return User.objects.get(pk=key) if key else None


def failed(client: Client, answer: Any) -> None:
    assert answer.headers["location"] == reverse("admin:login")
    assert person(client) is None


def events() -> list[str]:
    return list(AuditEvent.objects.filter(table_name="auth_user").order_by("pk").values_list("action", flat=True))


def roles(user: User) -> set[str]:
    return {str(grant) for grant in Grant.objects.filter(user=user)}


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


def test_neither_a_name_nor_an_address_takes_over_a_person(client: Client, provider: Provider) -> None:
    boss = User.objects.create_superuser("iris@example.com", "iris@example.com", "correct horse battery")
    provider.person |= {"preferred_username": "iris@example.com"}
    sign_in(client, provider)
    other = person(client)
    assert other is not None
    assert other != boss
    assert other.username.startswith("sso-")
    assert not other.is_superuser


@pytest.mark.parametrize("verified", [False, "false", None])
def test_an_address_that_is_not_verified_belongs_to_none(
    client: Client, provider: Provider, configure: Configure, verified: Any
) -> None:
    configure(oidc_links_by_email=True)
    boss = User.objects.create_superuser("boss", "iris@example.com", "correct horse battery")
    provider.person["email_verified"] = verified
    sign_in(client, provider)
    other = person(client)
    assert other is not None
    assert other != boss
    assert other.email == ""  # or the virtual keys of this owner would show


def test_a_verified_address_links_a_person_once_where_the_deployment_says_so(
    client: Client, provider: Provider, configure: Configure
) -> None:
    configure(oidc_links_by_email=True)
    boss = User.objects.create_superuser("boss", "Iris@example.com")
    sign_in(client, provider)
    assert person(client) == boss
    other = Client()
    provider.person["sub"] = "someone else with the address of iris"
    sign_in(other, provider)
    assert person(other) not in (None, boss)


@pytest.mark.parametrize("taken_by", ["a password", "a sign-in"])
def test_an_address_links_no_person_who_has_another_way_in(
    client: Client, provider: Provider, configure: Configure, taken_by: str
) -> None:
    configure(oidc_links_by_email=True, oidc_creates_people=False, oidc_roles={"platform": "owner"})
    provider.person["groups"] = ["platform"]
    mallory = User.objects.create_user("mallory", "iris@example.com")
    if taken_by == "a password":
        mallory.set_password("correct horse battery")
    else:
        mallory.last_login = timezone.now()
    mallory.save()
    answer = sign_in(client, provider)
    failed(client, answer)
    assert "link yourself" in client.get(answer.headers["location"]).content.decode()
    assert not SocialAccount.objects.exists()
    assert not roles(mallory)


def test_a_link_of_an_invitation_ends_with_the_sign_in_that_links_the_person(
    client: Client, provider: Provider, configure: Configure
) -> None:
    configure(oidc_links_by_email=True)
    iris = User.objects.create_user("iris", "iris@example.com")
    token = default_token_generator.make_token(iris)
    sign_in(client, provider)
    assert person(client) == iris
    assert not default_token_generator.check_token(User.objects.get(), token)


def test_only_an_owner_changes_by_what_a_person_is_known(client: Client) -> None:
    acme = Customer.objects.create(name="Acme")
    boss = User.objects.create_superuser("boss")
    admin = User.objects.create_user("mallory", "mallory@example.com")
    giving.give(None, admin, Role.KEY_ADMIN, customer=acme)
    page = reverse("admin:administration_person_change", args=[admin.pk])
    form = {"username": "iris", "email": "iris@example.com", "first_name": "M.", "is_active": "on"}
    form |= {"grants-TOTAL_FORMS": "0", "grants-INITIAL_FORMS": "0"}
    client.force_login(admin, "django.contrib.auth.backends.ModelBackend")
    assert client.post(page, form).status_code == 302
    admin.refresh_from_db()
    assert (admin.username, admin.email, admin.first_name) == ("mallory", "mallory@example.com", "M.")
    client.force_login(boss, "django.contrib.auth.backends.ModelBackend")
    assert client.post(page, form).status_code == 302
    admin.refresh_from_db()
    assert (admin.username, admin.email) == ("iris", "iris@example.com")


def test_an_address_of_two_people_links_neither(client: Client, provider: Provider, configure: Configure) -> None:
    configure(oidc_links_by_email=True, oidc_creates_people=False)
    for name in ("a", "b"):
        User.objects.create_user(name, "iris@example.com")
    failed(client, sign_in(client, provider))


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


def test_a_provider_at_a_private_address_needs_leave(client: Client, provider: Provider, configure: Configure) -> None:
    configure(allowed_private_hosts=[])
    provider.asked.clear()
    assert client.get(reverse("single_sign_on")).headers["location"] == reverse("admin:login")
    assert provider.asked == []


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


def test_a_person_who_was_added_and_unlinked_is_not_added_again(client: Client, provider: Provider) -> None:
    provider.person = {"sub": "iris"}
    sign_in(Client(), provider)
    iris = User.objects.get()
    iris.set_password("correct horse battery")
    iris.save()
    single_sign_on.unlink(iris)
    failed(client, sign_in(client, provider))
    assert User.objects.count() == 1


def test_a_person_who_is_signed_in_links_themselves_and_only_after_being_asked_again(
    client: Client, provider: Provider, configure: Configure
) -> None:
    configure(oidc_creates_people=False)
    boss = User.objects.create_superuser("boss", password="correct horse battery")
    client.post(reverse("admin:login"), {"username": "boss", "password": "correct horse battery"})
    assert client.get(reverse("single_sign_on_begin_link")).status_code == 405
    # Without the form, the page leads nowhere.
    assert client.get(reverse("single_sign_on_link"), {"go": ""}).headers["location"] == reverse("account")
    client.post(reverse("single_sign_on_begin_link"))
    page = client.get(reverse("single_sign_on_link"), {"go": ""}).headers["location"]
    assert "prompt=login" in page
    client.get(reverse("openid_connect_callback"), provider.authorize(page))
    assert SocialAccount.objects.get().user == boss
    other = Client()
    sign_in(other, provider)
    assert person(other) == boss


def test_a_person_with_a_password_unlinks_themselves_after_a_proof(
    client: Client, provider: Provider, configure: Configure
) -> None:
    configure(oidc_creates_people=False)
    boss = User.objects.create_superuser("boss", password="correct horse battery")
    single_sign_on.link(boss, "iris")
    client.force_login(boss, "django.contrib.auth.backends.ModelBackend")
    assert "Unlink from" in client.get(reverse("account")).content.decode()
    path = reverse("single_sign_on_unlink")
    assert client.post(path).headers["location"].startswith(reverse("account_reauthenticate"))
    assert SocialAccount.objects.exists()
    client.post(reverse("account_reauthenticate"), {"password": "correct horse battery", "next": reverse("account")})
    client.post(path)
    assert not SocialAccount.objects.exists()
    assert AuditEvent.objects.filter(table_name="socialaccount_socialaccount", action="deleted").exists()
    other = Client()
    failed(other, sign_in(other, provider))


def test_the_only_way_in_is_not_unlinked(client: Client, provider: Provider) -> None:
    sign_in(client, provider)
    assert "Unlink from" not in client.get(reverse("account")).content.decode()
    client.post(reverse("single_sign_on_unlink"))
    lost.remove_second_factors(User.objects.get())
    assert SocialAccount.objects.exists()


def test_whoever_removes_second_factors_removes_links_too(provider: Provider) -> None:
    boss = User.objects.create_superuser("boss", password="correct horse battery")
    single_sign_on.link(boss, "iris")
    lost.remove_second_factors(boss)
    assert not SocialAccount.objects.exists()


def test_a_provider_that_did_not_ask_again_is_not_linked(client: Client, provider: Provider) -> None:
    User.objects.create_superuser("boss", password="correct horse battery")
    client.post(reverse("admin:login"), {"username": "boss", "password": "correct horse battery"})
    client.post(reverse("single_sign_on_begin_link"))
    page = client.get(reverse("single_sign_on_link"), {"go": ""}).headers["location"]
    client.get(reverse("openid_connect_callback"), provider.authorize(page.replace("prompt=login", "prompt=none")))
    assert not SocialAccount.objects.exists()


def test_failures_of_a_network_are_counted(client: Client, provider: Provider, configure: Configure) -> None:
    configure(oidc_creates_people=False)
    answers = [client.get(reverse("openid_connect_callback"), {"state": "x", "code": "y"}) for _ in range(31)]
    assert [answer.status_code for answer in answers] == [302] * 30 + [429]
    SignInCount.objects.all().delete()
    answers = [client.get(reverse("single_sign_on")) for _ in range(61)]
    assert [answer.status_code for answer in answers] == [302] * 60 + [429]


def test_without_single_sign_on_there_is_no_page_and_no_link(client: Client) -> None:
    assert client.get(reverse("single_sign_on")).status_code == 404
    assert "single-sign-on" not in client.get(reverse("admin:login")).content.decode()
