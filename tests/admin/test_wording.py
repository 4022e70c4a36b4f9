"""What lists and pages are called, and which keys work in a browser."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.urls import reverse

from tests.admin.test_page_widths import filled, styled
from tests.support.issued import make_key
from tests.support.signed_in import signed_in

__all__ = ["filled", "styled"]
HEADING = re.compile(r"<h1>([^<]*)</h1>")


@pytest.fixture
def own_secrets(settings, tmp_path):
    settings.VAR_DIR = tmp_path


def heading(client, url) -> str:
    found = HEADING.search(client.get(url).content.decode())
    assert found, url
    return found[1]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("model", "title"),
    [
        ("keys_virtualkey", "Virtual keys"),
        ("usage_topup", "Top-ups"),
        ("usage_ledgerentry", "Calls"),
        ("usage_hold", "Calls in progress"),
        ("keys_cooldown", "Cool-downs"),
        ("keys_auditevent", "Audit log"),
        ("usage_process", "Web processes"),
        ("keys_modelalias", "Model aliases"),
    ],
)
def test_a_list_is_called_what_it_shows(admin_client, model, title):
    assert heading(admin_client, reverse(f"admin:{model}_changelist")) == title


@pytest.mark.django_db
def test_no_list_asks_to_select_something_to_change(admin_client):
    for model in admin.site._registry:
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        assert "Select " not in (HEADING.search(admin_client.get(url, follow=True).content.decode()) or [""])[0], url


@pytest.mark.django_db
def test_the_page_of_a_key_is_headed_by_its_name_and_has_routes_and_secrets(admin_client, own_secrets):
    key, _ = make_key("deploy-bot")
    url = reverse("admin:keys_virtualkey_change", args=[key.pk])
    assert heading(admin_client, url) == "deploy-bot"
    shown = admin_client.get(url).content.decode()
    for part in ("Routes", "Secrets"):
        assert re.search(rf"<h2[^>]*>\s*{part}\s*</h2>", shown), part


@pytest.mark.django_db
def test_a_rotation_says_until_when_the_old_secret_works(admin_client, own_secrets):
    key, _ = make_key("deploy-bot")
    url = reverse("admin:keys_virtualkey_rotate", args=[key.pk])
    newest = re.search(r'name="newest" value="(\d+)"', admin_client.get(url).content.decode())
    assert newest
    overlaps = re.findall(r'<option value="([^"]+)"', admin_client.get(url).content.decode())
    shown = admin_client.post(url, {"newest": newest[1], "overlap": overlaps[-1]}).content.decode()
    assert re.search(r"Rotated; the old secret works until \d+ \w+ \d{4} \d\d:\d\d UTC\.", shown)


@pytest.mark.django_db
def test_an_empty_list_says_what_to_do(admin_client):
    shown = admin_client.get(reverse("admin:keys_team_changelist")).content.decode()
    assert "There is no team yet. Add one" in shown


def test_slash_moves_to_the_search_box_and_escape_leaves_it(chromium, styled, filled):
    with signed_in() as cookies:
        chromium.keep(cookies, styled.url)
        chromium.size(1280, 900)
        chromium.open(styled.url + "/admin/keys/virtualkey/")

        def press(key: str) -> None:
            for kind in ("keyDown", "keyUp"):
                text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
                chromium.say("Input.dispatchKeyEvent", type=kind, key=key, **text)

        focused = """(({id, className, tagName}) => tagName === "BODY" ? tagName : id || className)(
            document.activeElement)"""
        press("/")
        assert chromium.evaluate(focused) == "site-search"
        assert chromium.evaluate("document.getElementById('site-search').value") == ""
        press("a")
        press("Escape")
        assert chromium.evaluate(focused) == "BODY"
        # The first stop of the Tab key leads past the bar.
        chromium.open(styled.url + "/admin/keys/virtualkey/")
        chromium.say("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        assert chromium.evaluate(focused) == "skip-to-content-link"
        chromium.evaluate("document.querySelector('.account').open = true")
        press("Escape")
        assert not chromium.evaluate("document.querySelector('.account').open")
        assert chromium.violations() == []


def test_every_room_fits_a_laptop_and_a_phone(chromium, styled, filled):
    from administration import rooms

    wrong = {}
    with signed_in() as cookies:
        chromium.keep(cookies, styled.url)
        for width in (1280, 390):
            chromium.size(width, 900)
            for page in (page for room in rooms.ROOMS for page in room.pages if page.linked):
                chromium.open(styled.url + rooms.url_of(page))
                wide = chromium.evaluate("document.documentElement.scrollWidth")
                if wide > width or chromium.violations():
                    wrong[page.title, width] = (wide, chromium.violations())
    assert wrong == {}
