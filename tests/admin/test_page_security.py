"""What keeps pages safe in a browser: no inline scripts or styles, no way to another site, headers, cookies."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import get_resolver, reverse

from administration import rooms
from administration.analytics.paths import PATHS
from gateway_project.page_paths import is_page
from tests.support.issued import make_key
from tests.support.owner import own_secrets as own_secrets

pytestmark = pytest.mark.django_db

# A script without an address, unless it is data; a style in the page; a handler or a style in an attribute.
INLINE = re.compile(
    r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")[^>]*>|<style|\sstyle=|\son[a-z]+=\"|javascript:", re.I
)

BESIDE = ("admin:time_zone", "admin:password_change", "account", "usersessions_list")


def pages() -> list[str]:
    """Every page without parameters: those of the rooms, the lists, the forms that add a row, and beside them."""
    found = [rooms.url_of(page) for room in (*rooms.ROOMS, rooms.ELSEWHERE) for page in room.pages if page.linked]
    for model, page in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        found.append(reverse(f"{name}_changelist"))
        if type(page).has_add_permission.__qualname__.startswith(("BaseModelAdmin", "ModelAdmin")):
            found.append(reverse(f"{name}_add"))
    return [*dict.fromkeys(found), "/", "/docs/", "/my/", *map(reverse, BESIDE)]


def test_the_server_leads_every_url_of_pages_to_them_and_none_of_the_api():
    for pattern in get_resolver().url_patterns:
        path = "/" + re.sub(r"<[^>]*>", "x", str(pattern.pattern))
        assert is_page({"path": path, "method": "GET", "headers": []}), path
    for path in PATHS:
        assert is_page({"path": path, "method": "POST", "headers": []}), path
    of_the_api = ("/v1/messages", "/anthropic/v1/messages", "/v1/organizations/api_keys", "/v1/organizations/analytics")
    for path in (*of_the_api, "/myself", "/administration", "/x"):
        assert not is_page({"path": path, "method": "GET", "headers": []}), path


def test_no_page_has_an_inline_script_or_style(admin_client):
    key, _ = make_key()
    wrong = {}
    rows = [reverse("admin:keys_virtualkey_change", args=[key.pk])]
    rows += [reverse(f"admin:keys_virtualkey_{what}", args=[key.pk]) for what in ("rotate", "revoke")]
    for url in [*pages(), *rows]:
        answer = admin_client.get(url, follow=True)
        assert answer.status_code == 200, url
        if found := INLINE.findall(answer.content.decode()):
            wrong[url] = found
    assert wrong == {}


def test_strangers_see_no_inline_script_or_style_either(client):
    for url in (reverse("admin:login"), "/admin/nothing/", "/", "/my/"):
        assert not INLINE.search(client.get(url, follow=True).content.decode()), url


@pytest.mark.parametrize(
    "url", ["/", "/my/", "/docs/", "/admin/login/", "/admin/", "/admin/find/", "/admin/time-zone/"]
)
def test_every_page_has_the_headers_that_bound_what_browsers_do(admin_client, url):
    headers = admin_client.get(url).headers
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "*" not in policy
    for directive in ("default-src 'self'", "object-src 'none'", "base-uri 'none'", "form-action 'self'"):
        assert directive in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "geolocation=()" in headers["permissions-policy"]


@pytest.mark.parametrize(
    "where",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "http://testserver@evil.example/",
        "///evil.example",
        "\thttps://evil.example",
    ],
)
def test_next_leads_to_ourselves_only(client, where):
    User.objects.create_superuser("alice", password="correct horse battery")
    given = {"username": "alice", "password": "correct horse battery", "next": where}
    answer = client.post(reverse("admin:login"), given)
    assert answer.status_code == 302
    assert "evil" not in answer.headers["location"]
    assert answer.headers["location"].startswith("/")


def test_next_leads_back_to_the_page_that_was_asked_for():
    client = Client()
    User.objects.create_superuser("alice", password="correct horse battery")
    page = reverse("admin:keys_team_changelist")
    asked = client.get(page).headers["location"]
    given = {"username": "alice", "password": "correct horse battery", "next": page}
    answer = client.post(asked, given)
    assert answer.headers["location"] == page


def test_behind_tls_the_cookie_of_the_time_zone_is_secure_and_of_this_host_only(client):
    with override_settings(SESSION_COOKIE_SECURE=True, TIME_ZONE_COOKIE_NAME="__Host-time_zone"):
        client.post(reverse("admin:time_zone"), {"zone": "Europe/Berlin"}, secure=True)
        cookie = client.cookies["__Host-time_zone"]
    assert cookie["secure"]
    assert cookie["httponly"]
    assert (cookie["path"], cookie["domain"], cookie["samesite"]) == ("/", "", "Lax")


def test_a_time_zone_is_not_changed_from_another_site():
    client = Client(enforce_csrf_checks=True)
    assert client.post(reverse("admin:time_zone"), {"zone": "Europe/Berlin"}).status_code == 403
