"""A team's rules hold for keys that are moved into the team, and people whom they bind move no key out of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from administration.role_names import Role
from administration.roles import giving
from keys.models import Team, VirtualKey
from tests.support.admin_forms import change
from tests.support.issued import make_key
from tests.support.issuing_form import ask, faults, secret
from tests.support.owner import own_secrets as own_secrets
from tests.support.rest import Program, error
from usage.models import Budget, KeyRules, Limit

pytestmark = pytest.mark.django_db


@pytest.fixture
def key():
    """A key without a budget, of a team without rules."""
    return make_key()[0]


@pytest.fixture
def ruled(key):
    """Another team of the same customer, with rules."""
    team = Team.objects.create(customer=key.customer, name="Ruled")
    KeyRules.objects.create(team=team, most_budget=20, most_rpm=60)
    return team


@pytest.fixture
def admin(key):
    """A team admin of the customer."""
    user = User.objects.create_user("admin", is_staff=True)
    giving.give(None, user, Role.TEAM_ADMIN, customer=key.customer)
    return user


def move(user, key, team):
    return Program(user, name=f"to {team}").patch(f"virtual-keys/{key.pk}", {"team_id": team and team.pk})


def move_in_form(user, key, team):
    client = Client()
    client.force_login(user)
    route = key.routes.get()
    form: dict[str, Any] = {
        f"{part}-{forms}_FORMS": 0 for part in ("budgets", "limits") for forms in ("TOTAL", "INITIAL")
    }
    form |= {"routes-TOTAL_FORMS": 1, "routes-INITIAL_FORMS": 1, "routes-0-id": route.pk, "routes-0-weight": 1}
    form |= {"routes-0-virtual_key": key.pk, "routes-0-provider_key": route.provider_key_id, "name": key.name}
    form |= {"team": team.pk if team else "", "labels": "", "owner": ""}
    form |= {"credentials-TOTAL_FORMS": 1, "credentials-INITIAL_FORMS": 1}
    form |= {"credentials-0-id": key.credentials.get().pk, "credentials-0-virtual_key": key.pk}
    return change(client, reverse("admin:keys_virtualkey_change", args=[key.pk]), form, follow=True)


def team_of(key):
    return VirtualKey.objects.get(pk=key.pk).team


def within(key):
    """The same key, with a budget and a limit as the rules want them."""
    Budget.objects.create(virtual_key=key, amount=20)
    Limit.objects.create(virtual_key=key, kind="rpm", rate=60)
    return key


@pytest.mark.parametrize("way", [move, move_in_form])
def test_a_key_that_passes_a_ceiling_can_not_be_moved_into_the_team(key, ruled, admin, way):
    assert "hard budget of at most $20.00 a month" in way(admin, key, ruled).content.decode()
    assert team_of(key) != ruled


@pytest.mark.parametrize("way", [move, move_in_form])
def test_a_key_within_all_rules_can_be_moved_into_the_team(key, ruled, admin, way):
    way(admin, within(key), ruled)
    assert team_of(key) == ruled


@pytest.mark.parametrize("way", [move, move_in_form])
@pytest.mark.parametrize("to", ["another team", "no team"])
def test_a_key_can_not_be_moved_out_of_a_team_whose_rules_bind_the_person(key, ruled, admin, way, to):
    free = None if to == "no team" else key.team
    VirtualKey.objects.filter(pk=within(key).pk).update(team=ruled)
    assert "only who may change the team moves a key out of it" in way(admin, key, free).content.decode()
    assert team_of(key) == ruled
    way(User.objects.create_superuser("boss"), key, free)
    assert team_of(key) == free


def test_a_person_whom_rules_of_one_team_bind_manages_no_key_of_the_customer_without_a_team(key, ruled, admin):
    program, body = Program(admin), {"name": "free", "customer_id": key.customer_id}
    error(move(admin, key, None), 400, "invalid")
    assert "choose a team" in error(program.ask("POST", "virtual-keys", body), 400, "invalid")["message"]
    client = Client()
    client.force_login(admin)
    assert list(faults(ask(client, name="free", customer=key.customer_id))) == ["team"]
    VirtualKey.objects.filter(pk=key.pk).update(team=None)
    budget = Budget.objects.create(virtual_key=key, amount=5)
    error(program.ask("DELETE", f"budgets/{budget.pk}"), 400, "invalid")
    error(program.patch(f"budgets/{budget.pk}", {"amount": "500"}), 400, "invalid")
    KeyRules.objects.all().delete()
    program.post("virtual-keys", body)
    secret(ask(client, name="other", customer=key.customer_id))
