"""What lists, pages and buttons are called."""

from __future__ import annotations

import html
import re

import pytest
from django.contrib import admin
from django.urls import reverse

from keys.models import ModelAlias
from tests.support.issued import make_key
from tests.support.owner import own_secrets as own_secrets
from tests.support.role_cast import make_role_cast

HEADING = re.compile(r"<h1>([^<]*)</h1>")


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
def test_buttons_that_add_a_part_of_a_row_are_called_what_they_do(admin_client):
    cast, found = make_role_cast(), {}
    for label in ("keys.customer", "keys.team", "keys.virtualkey", "usage.budget", "administration.person"):
        url = reverse(f"admin:{label.replace('.', '_')}_change", args=[cast.row(label).pk])
        found[label] = re.findall(r'"addText": "([^"]*)"', html.unescape(admin_client.get(url).content.decode()))
    budgets = ["Add a budget", "Add a limit"]
    assert found == {
        "keys.customer": budgets,
        "keys.team": ["Set rules for its keys", *budgets],
        "keys.virtualkey": ["Add another route", "", *budgets],  # secrets are added by rotations
        "usage.budget": ["Add an override", "Top up this budget"],
        "administration.person": ["Give another role"],
    }


@pytest.mark.django_db
def test_the_page_of_a_row_is_headed_by_its_name(admin_client):
    cast = make_role_cast()
    for label, title in (
        ("usage.process", "host 1"),
        ("usage.worker", "worker host 2"),
        ("usage.retained", f"req_bf_{cast.row('usage.retained').pk.hex}"),
        ("keys.gateway", "The whole gateway"),
    ):
        url = reverse(f"admin:{label.replace('.', '_')}_change", args=[cast.row(label).pk])
        assert heading(admin_client, url) == title


@pytest.mark.django_db
def test_a_page_that_deletes_says_what_and_that_it_is_final(admin_client):
    alias = ModelAlias.objects.create(name="fast", target="claude-haiku-4-5")
    url = reverse("admin:keys_modelalias_delete", args=[alias.pk])
    assert heading(admin_client, url) == "Delete the model alias “fast”"
    shown = html.unescape(admin_client.get(url).content.decode())
    assert "You can't undo this." in shown
    assert "Are you sure" not in shown
    assert admin_client.post(url, {"post": "yes"}).status_code == 302
    assert not ModelAlias.objects.exists()


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
