"""A team's rules for its keys: defaults for new ones, and ceilings that the team's admins can't pass."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from administration.models import Person
from administration.role_names import Role
from administration.roles import ceilings, giving
from keys import patterns
from keys.audit.models import AuditEvent
from keys.errors import Unusable
from keys.models import VirtualKey
from tests.support.admin_forms import change
from tests.support.issued import make_key, make_provider_key, opened_by
from tests.support.issuing_form import ask, faults, secret, text
from tests.support.owner import own_secrets as own_secrets
from usage import budget_terms, new_keys
from usage.budgets import LimitKind
from usage.models import Budget, KeyRules, Limit

pytestmark = pytest.mark.django_db


@pytest.fixture
def team():
    return make_key("first")[0].team


def new(team, **terms):
    key = VirtualKey(name="ci", customer=team.customer, team=team, **terms)
    return key, [(team.virtual_keys.first().provider_keys.first(), 1)]


def admin_of(team):
    person = Person.objects.create_user("team-admin", is_staff=True)
    giving.give(None, person, Role.TEAM_ADMIN, team=team)
    client = Client()
    client.force_login(User.objects.get(pk=person.pk))
    return client, User.objects.get(pk=person.pk)


def test_a_new_key_gets_what_the_rules_say_where_it_says_nothing(team):
    KeyRules.objects.create(
        team=team, budget=50, rpm=60, most_parallel=8, days=30, allowed_models=["echo-*"], period="week"
    )
    key, routes = new(team)
    issued = new_keys.issue(key, routes)
    assert [(row.amount, row.period, row.enforcement) for row in issued.budgets] == [(Decimal(50), "week", "hard")]
    assert {row.kind: row.rate for row in issued.limits} == {"rpm": 60, "parallel": 8}
    assert key.allowed_models == ["echo-*"]
    assert abs(key.expires_at - timezone.now() - timedelta(days=30)) < timedelta(minutes=1)


def test_a_fault_of_the_rules_models_says_whose_they_are(team):
    KeyRules.objects.create(team=team, allowed_models=["claude-*"])
    key, routes = new(team)
    routes[0][0].model_patterns = ["echo-*"]
    with pytest.raises(Unusable, match=r"its team's rules \(claude-\*\): none of its provider keys serves “claude-\*”"):
        new_keys.issue(key, routes)


def test_what_a_new_key_says_goes_before_the_rules(team):
    KeyRules.objects.create(team=team, budget=50, rpm=60)
    key, routes = new(team, allowed_models=["echo-1"])
    limit = budget_terms.LimitTerms(LimitKind.REQUESTS, 5)
    issued = new_keys.issue(key, routes, budgets=[], limits=[lambda row: budget_terms.put_limit(row, limit)])
    assert issued.budgets == []
    assert [row.rate for row in issued.limits] == [5]


def test_a_command_issues_by_the_rules_too(team, capsys):
    KeyRules.objects.create(team=team, budget=50)
    call_command("issue_virtual_key", "ci", "--customer", "Acme", "--team", "Research")
    assert opened_by(capsys.readouterr().out.strip()).virtual_key.budgets.get().amount == 50


def test_a_default_above_its_ceiling_is_refused(team):
    with pytest.raises(ValidationError) as refused:
        KeyRules(team=team, budget=50, most_budget=20, rpm=9, most_rpm=10).full_clean()
    assert list(refused.value.message_dict) == ["budget"]


@pytest.mark.parametrize(
    ("rules", "fields", "field"),
    [
        ({"most_budget": 20}, {"budget": "21"}, "budget"),
        ({"most_budget": 20}, {"budget": "5", "period": "day"}, "budget"),
        ({"most_budget": 20}, {"budget": "5", "enforcement": "soft"}, "budget"),
        ({"most_budget": 20}, {"period": "without"}, "budget"),
        ({"most_rpm": 60}, {"rpm": "61"}, "rpm"),
        ({"most_input_tpm": 60}, {"input_tpm": "61"}, "input_tpm"),
        ({"most_output_tpm": 60}, {"output_tpm": "61"}, "output_tpm"),
        ({"most_parallel": 6}, {"parallel": "7"}, "parallel"),
        ({"most_days": 30}, {"expires_at": "2099-01-01T00:00"}, "expires_at"),
        ({"allowed_models": ["echo-*"]}, {"allowed_models": "*"}, "allowed_models"),
        ({"allowed_models": ["echo-*"]}, {"allowed_models": "echo-1, claude-opus"}, "allowed_models"),
    ],
)
def test_a_team_admin_can_not_pass_a_ceiling_and_who_may_change_the_team_can(team, client, rules, fields, field):
    KeyRules.objects.create(team=team, **rules)
    admin, _ = admin_of(team)
    response = ask(admin, name="ci", team=team.pk, **fields)
    assert list(faults(response)) == [field]
    assert "of this team" in faults(response)[field]
    assert VirtualKey.objects.count() == 1
    client.force_login(User.objects.create_superuser("boss", password=None))
    secret(ask(client, name="ci", team=team.pk, **fields))


def test_at_the_ceiling_a_team_admin_issues_and_narrower_budgets_are_welcome(team):
    KeyRules.objects.create(team=team, most_budget=20, most_rpm=60, most_days=30, allowed_models=["echo-*"])
    admin, _ = admin_of(team)
    last_day = timezone.now() + timedelta(days=30)
    fields = {"budget": "20", "rpm": "60", "expires_at": f"{last_day:%Y-%m-%dT%H:%M}", "allowed_models": "echo-1*"}
    secret(ask(admin, name="ci", team=team.pk, more_budgets="1/day", **fields))
    secret(ask(admin, name="unsaid", team=team.pk))
    assert VirtualKey.objects.get(name="unsaid").limits.get().rate == 60


def bounded_key(team):
    KeyRules.objects.create(team=team, most_budget=20, most_rpm=60, most_days=30)
    key, routes = new(team)
    return new_keys.issue(key, routes).virtual_key


def test_a_team_admin_can_not_pass_a_ceiling_later(team):
    key = bounded_key(team)
    admin, _ = admin_of(team)
    budget, limit = key.budgets.get(), key.limits.get()
    url = reverse("admin:usage_budget_change", args=[budget.pk])
    parts = {f"overrides-{forms}_FORMS": 0 for forms in ("TOTAL", "INITIAL")}
    raised = {"amount": "100", "enforcement": "hard", "thresholds": "", "model_patterns": "", "active": "on"} | parts
    refused = change(admin, url, raised)
    assert "at most $20.00 a month" in str(refused.context["adminform"].form.non_field_errors())
    # What was typed is still there.
    assert 'value="100"' in text(refused)
    budget.refresh_from_db()
    assert budget.amount == 20
    chosen = {"action": "delete_softly", "_selected_action": [budget.pk]}
    assert "Nothing was deleted" in text(admin.post(reverse("admin:usage_budget_changelist"), chosen, follow=True))
    chosen = {"action": "delete_softly", "_selected_action": [limit.pk]}
    assert "Nothing was deleted" in text(admin.post(reverse("admin:usage_limit_changelist"), chosen, follow=True))
    assert Budget.objects.get(pk=budget.pk).active
    assert Limit.objects.get(pk=limit.pk).active
    lowered = change(admin, url, raised | {"amount": "7"}, follow=True)
    budget.refresh_from_db()
    assert budget.amount == 7, text(lowered)


def test_an_override_above_the_ceiling_is_refused_as_well(team):
    key = bounded_key(team)
    _, user = admin_of(team)
    budget = key.budgets.get()
    tomorrow = timezone.now() + timedelta(days=1)
    lower = budget.override(Decimal(5), windows=None, until=tomorrow, reason="test", author="x")
    ceilings.hold(user, lower)
    higher = budget.override(Decimal(500), windows=None, until=tomorrow, reason="test", author="x")
    with pytest.raises(Unusable, match="at most"):
        ceilings.hold(user, higher)


def test_rules_are_changed_on_the_teams_page_and_stand_in_the_audit_log(team, client):
    client.force_login(User.objects.create_superuser("boss", password=None))
    parts = {
        f"{part}-{forms}_FORMS": 0 for part in ("budgets", "limits", "key_rules") for forms in ("TOTAL", "INITIAL")
    }
    rules = {"key_rules-TOTAL_FORMS": 1, "key_rules-0-period": "month", "key_rules-0-most_budget": "20"}
    form = {"name": "Research"} | parts | rules | {"key_rules-0-team": team.pk, "key_rules-0-allowed_models": "a-*, b"}
    refused = change(
        client, reverse("admin:keys_team_change", args=[team.pk]), form | {"key_rules-0-allowed_models": "é"}
    )
    assert "is not a model name or pattern" in text(refused)
    response = change(client, reverse("admin:keys_team_change", args=[team.pk]), form)
    assert response.status_code == 302, response.content.decode()
    assert KeyRules.objects.get().allowed_models == ["a-*", "b"]
    assert AuditEvent.objects.get(table_name="usage_keyrules").about == f"keys_team:{team.pk}"
    assert "$20.00 a month" in text(client.get(reverse("admin:team", args=[team.pk])))


def test_a_team_admin_sees_the_rules_and_can_not_change_them(team):
    rules = KeyRules.objects.create(team=team, most_budget=20)
    admin, user = admin_of(team)
    assert user.has_perm("usage.view_keyrules", rules)
    assert not user.has_perm("usage.change_keyrules", rules)
    page = text(admin.get(reverse("admin:keys_virtualkey_add"), {"team": team.pk}))
    assert f"Rules of {team}" in page
    assert admin.post(reverse("admin:keys_team_change", args=[team.pk]), {}).status_code == 403


@pytest.mark.parametrize(
    ("wider", "narrower", "included"),
    [
        *(("*", "*", True), ("a-*", "a-1", True), ("a-*", "a-*", True), ("a-*", "a-b*c", True), ("*x*", "a*x", True)),
        *(("a-*", "*", False), ("a-*", "a*", False), ("a-*c", "a-*", False), ("A-*", "a-1", True), ("a", "a*", False)),
    ],
)
def test_one_pattern_includes_another(wider, narrower, included):
    assert patterns.includes(wider, narrower) is included


def test_teams_without_rules_have_no_ceilings(team):
    make_provider_key("other")
    admin, _ = admin_of(team)
    secret(ask(admin, name="ci", team=team.pk, budget="100000"))
