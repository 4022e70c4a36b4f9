"""Two people, or two tabs, change the same row: no change is lost without a word."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from administration.role_names import Role
from keys.models import VirtualKey, VirtualKeyRoute
from tests.roles.test_roles import person
from tests.support.admin_forms import faults, save, send, shown
from tests.support.issued import make_key, make_provider_key
from usage.models import Budget

pytestmark = pytest.mark.django_db


@pytest.fixture
def key():
    return make_key()[0]


def change_page(row: object) -> str:
    meta = row._meta  # type: ignore[attr-defined]
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])  # type: ignore[attr-defined]


def test_a_budget_that_was_changed_meanwhile_is_not_overwritten_until_it_is_sent_again(admin_client, key):
    budget = Budget.objects.create(virtual_key=key, amount=5, period="day")
    page, before = change_page(budget), budget.thresholds
    opened = shown(admin_client.get(page))
    assert save(admin_client, page, amount="7").status_code == 302
    answer = send(admin_client, page, opened, thresholds="50")
    assert answer.status_code == 200
    said = faults(answer)
    assert "changed after you opened the page" in said
    assert "you: Budget" in said
    assert "$5.00 → $7.00" in said
    budget.refresh_from_db()
    assert (budget.amount, budget.thresholds) == (Decimal(7), before)
    entered = shown(answer)
    assert (Decimal(entered["amount"]), entered["thresholds"]) == (Decimal(5), "50")
    assert send(admin_client, page, entered).status_code == 302
    budget.refresh_from_db()
    assert (budget.amount, budget.thresholds) == (Decimal(5), [50])


def test_the_owner_of_a_key_and_its_routes_are_not_overwritten_unseen(admin_client, key):
    page = change_page(key)
    opened = shown(admin_client.get(page))
    assert save(admin_client, page, owner="bob@example.com").status_code == 302
    assert "changed after" in faults(send(admin_client, page, opened, max_tokens="100"))
    key.refresh_from_db()
    assert (key.owner, key.max_tokens) == ("bob@example.com", None)
    opened = shown(admin_client.get(page))
    VirtualKeyRoute.objects.create(virtual_key=key, provider_key=make_provider_key("other"))
    assert "changed after" in faults(send(admin_client, page, opened, max_tokens="100"))
    opened = shown(admin_client.get(page))
    VirtualKeyRoute.objects.filter(virtual_key=key, provider_key__name="other").delete()
    answer = send(admin_client, page, opened, max_tokens="100")
    assert answer.status_code == 200
    assert "changed after" in faults(answer)


def test_what_a_form_does_not_show_may_change_meanwhile(admin_client, key):
    page = change_page(key)
    opened = shown(admin_client.get(page))
    VirtualKey.objects.filter(pk=key.pk).update(active=False)
    assert send(admin_client, page, opened, max_tokens="100").status_code == 302
    key.refresh_from_db()
    assert (key.active, key.max_tokens) == (False, 100)


@pytest.mark.parametrize("version", [None, "", ".5"])
def test_a_form_that_names_no_version_is_refused_until_it_is_sent_again(admin_client, key, version):
    budget = Budget.objects.create(virtual_key=key, amount=5, period="day")
    page = change_page(budget)
    answer = send(admin_client, page, shown(admin_client.get(page)) | {"_version": version}, amount="7")
    assert answer.status_code == 200
    assert "say which version of the row it changes" in faults(answer)
    budget.refresh_from_db()
    assert budget.amount == Decimal(5)
    assert send(admin_client, page, shown(answer)).status_code == 302
    budget.refresh_from_db()
    assert budget.amount == Decimal(7)


def test_people_who_may_not_see_the_audit_log_do_not_learn_who_it_was(admin_client, key):
    client = Client()
    client.force_login(person("carla", Role.TEAM_ADMIN, team=key.team))
    page = change_page(key)
    opened = shown(client.get(page))
    save(admin_client, page, owner="bob@example.com")
    said = faults(send(client, page, opened, max_tokens="100"))
    assert "another person: Virtual key" in said
    assert "owner – → bob@example.com" in said
    assert "admin:" not in said
