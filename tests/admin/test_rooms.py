"""The bar: which rooms and pages a person finds in it, and that none of its links leads nowhere."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from administration import rooms
from administration.rooms import Page, Room

pytestmark = pytest.mark.django_db
ROOM = re.compile(r'<nav class="rooms".*?</nav>', re.S)
LINK = re.compile(r'<a href="([^"]+)"[^>]*>([^<]+)</a>')


def rooms_shown(client: Client) -> dict[str, str]:
    """The rooms of the bar, and where each leads."""
    page = client.get(reverse("admin:index")).content.decode()
    bar = ROOM.search(page)
    assert bar
    return {title: url for url, title in LINK.findall(bar[0])}


def bob_with(*permissions: str) -> Client:
    """Bob signs in to the administration, with these permissions."""
    bob = User.objects.create(username="bob", is_staff=True)
    bob.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(bob)
    return client


def test_every_link_of_every_room_opens_a_page(admin_client: Client) -> None:
    for room in rooms.ROOMS:
        for page in room.pages:
            if page.linked:
                answer = admin_client.get(rooms.url_of(page), follow=True)
                assert answer.status_code == 200, page.title
                shown = answer.content.decode()
                assert f'aria-current="true">{room.title}</a>' in shown, page.title


def test_every_list_of_the_site_is_in_one_room() -> None:
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
        assert sum(room.includes(name) for room in rooms.ROOMS) == 1, name


def test_an_administrator_sees_the_six_rooms_and_the_settings(admin_client: Client) -> None:
    assert list(rooms_shown(admin_client)) == [
        *("Overview", "Keys", "Calls", "Usage", "Billing", "Providers", "Settings")
    ]


def test_a_person_sees_only_rooms_with_a_page_for_them() -> None:
    assert list(rooms_shown(bob_with("view_rollup", "view_price"))) == ["Overview", "Usage", "Billing", "Settings"]


def test_a_room_leads_to_the_first_page_that_the_person_may_see() -> None:
    assert rooms_shown(bob_with("view_team"))["Keys"] == reverse("admin:keys_team_changelist")


def test_a_room_with_many_pages_has_a_row_of_menus(admin_client: Client) -> None:
    shown = admin_client.get(reverse("admin:what_if")).content.decode()
    row = re.search(r'<nav class="room-pages".*?</nav>', shown, re.S)
    assert row
    assert set(re.findall(r"<summary[^>]*>([^<]+)</summary>", row[0])) == set(rooms.BILLING.menus)
    assert '<summary aria-current="true">Prices</summary>' in row[0]
    assert f'<a href="{reverse("admin:what_if")}" aria-current="page">What if</a>' in row[0]
    linked = [page.title for page in rooms.BILLING.pages if page.linked]
    assert sorted(title for _, title in LINK.findall(row[0])) == sorted(linked)


def test_a_menu_with_one_page_is_its_link() -> None:
    bob = User.objects.create(username="bob", is_staff=True)
    bob.user_permissions.set(Permission.objects.filter(codename__in=("view_statement", "view_topup")))
    names = [link.title for link in rooms.links(bob, "admin:statements")]
    assert sorted(names) == ["Statements", "Top-ups"]


def test_the_page_of_a_row_names_its_room_and_its_list(admin_client: Client) -> None:
    shown = admin_client.get(reverse("admin:keys_customer_add")).content.decode()
    crumbs = re.search(r'<nav class="crumbs".*?</nav>', shown, re.S)
    assert crumbs
    assert [title for _, title in LINK.findall(crumbs[0])] == ["Keys", "Customers"]


def test_the_site_has_no_index_of_tables(admin_client: Client) -> None:
    for app in ("keys", "usage", "reconciliation", "messages_api", "billing", "administration"):
        answer = admin_client.get(f"/admin/{app}/")
        assert (answer.status_code, answer.headers["location"]) == (302, reverse("admin:index"))


def test_a_page_of_a_room_is_refused_to_people_without_one_of_its_permissions() -> None:
    page = Page("Secret", "admin:secret", ("keys.view_team",), route="secret/", view=lambda request: HttpResponse("ok"))
    request = RequestFactory().get("/")
    request.user = User.objects.create(username="bob")
    with pytest.raises(PermissionDenied):
        page.guarded()(request)
    request.user = User.objects.create_superuser("alice")
    assert page.guarded()(request).status_code == 200


def test_a_page_that_is_added_first_is_where_the_bar_leads() -> None:
    room = Room("Calls", [rooms.listed("Refusals", "usage.refusal")])
    room.add(Page("Calls", "admin:calls", route="calls/"), first=True)
    room.add(Page("A call", "admin:call", route="calls/<uuid:call>/", linked=False))
    alice = User.objects.create_superuser("alice")
    assert [page.title for page in room.open_to(alice)] == ["Calls", "Refusals"]
    assert room.includes("admin:call")
    assert room.includes("admin:usage_refusal_change")
    assert not room.includes("admin:usage_budget_change")
