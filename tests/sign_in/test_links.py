"""Links to single sign-on: whom a verified address finds, and how people link and unlink themselves."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from administration.role_names import Role
from administration.roles import giving
from administration.sign_in import lost, single_sign_on
from keys.audit.models import AuditEvent
from keys.models import Customer
from tests.support.admin_forms import change
from tests.support.oidc_provider import Provider
from tests.support.single_sign_on import Configure, failed, person, roles, sign_in

pytestmark = pytest.mark.django_db


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
    assert change(client, page, form).status_code == 302
    admin.refresh_from_db()
    assert (admin.username, admin.email, admin.first_name) == ("mallory", "mallory@example.com", "M.")
    client.force_login(boss, "django.contrib.auth.backends.ModelBackend")
    assert change(client, page, form).status_code == 302
    admin.refresh_from_db()
    assert (admin.username, admin.email) == ("iris", "iris@example.com")


def test_an_address_of_two_people_links_neither(client: Client, provider: Provider, configure: Configure) -> None:
    configure(oidc_links_by_email=True, oidc_creates_people=False)
    for name in ("a", "b"):
        User.objects.create_user(name, "iris@example.com")
    failed(client, sign_in(client, provider))


def test_a_provider_at_a_private_address_needs_leave(client: Client, provider: Provider, configure: Configure) -> None:
    configure(allowed_private_hosts=[])
    provider.asked.clear()
    assert client.get(reverse("single_sign_on")).headers["location"] == reverse("admin:login")
    assert provider.asked == []


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


def test_removing_second_factors_removes_links_too(provider: Provider) -> None:
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


def test_without_single_sign_on_there_is_no_page_and_no_link(client: Client) -> None:
    assert client.get(reverse("single_sign_on")).status_code == 404
    assert "single-sign-on" not in client.get(reverse("admin:login")).content.decode()
