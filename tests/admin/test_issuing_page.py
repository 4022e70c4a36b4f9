"""The page that issues a virtual key: who pays, what it may use, its budget and limits, and the secret once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from administration.models import Person
from administration.role_names import Role
from administration.roles import giving
from keys import issuing
from keys.model_lists import LISTED
from keys.models import Customer, ModelList, Team, VirtualKey
from tests.support.issued import make_key, make_provider_key, opened_by
from tests.support.issuing_form import ask, faults, secret, terms, text
from tests.support.owner import boss as boss
from tests.support.owner import own_secrets as own_secrets
from usage.models import Budget, Limit

pytestmark = pytest.mark.django_db


@pytest.fixture
def echo():
    return make_provider_key()


def signed_in(role, **scope):
    user = Person.objects.create_user(f"{role}", is_staff=True)
    giving.give(None, user, role, **scope)
    client = Client()
    client.force_login(User.objects.get(pk=user.pk))
    return client


def test_customer_team_key_budget_and_limit_come_from_one_form(boss, echo):
    response = ask(boss, name="ci", new_customer="Acme", new_team="Research", budget="50", rpm="60")
    key = opened_by(secret(response)).virtual_key
    assert (key.name, str(key.team), key.customer.name) == ("ci", "Acme / Research", "Acme")
    budget, limit = Budget.objects.get(), Limit.objects.get()
    assert (budget.virtual_key, budget.amount, budget.period, budget.enforcement) == (key, Decimal(50), "month", "hard")
    assert (limit.virtual_key, limit.kind, limit.rate) == (key, "rpm", 60)
    assert "$50 a month" in text(response)
    assert "60 requests a minute" in text(response)


def test_names_of_a_customer_and_team_that_exist_mean_these(boss, echo):
    key, _ = make_key("first")
    ask(boss, name="second", new_customer="Acme", new_team="Research")
    assert VirtualKey.objects.get(name="second").team == key.team
    assert (Customer.objects.count(), Team.objects.count()) == (1, 1)


def test_a_key_has_all_that_the_form_says(boss, echo):
    other = make_provider_key("other")
    team = make_key("first")[0].team
    soon = timezone.now() + timedelta(days=30)
    response = ask(
        boss,
        name="ci",
        team=team.pk,
        owner="alice@example.com",
        allowed_models="claude-*,  echo-1",
        denied_models="claude-opus-*",
        fallback_models="echo-1",
        more_budgets="20/day\n5000000tokens/week/soft",
        budget="50",
        period="quarter",
        enforcement="expected",
        input_tpm="100000",
        output_tpm="20000",
        parallel="8",
        expires_at=f"{soon:%Y-%m-%dT%H:%M}",
        labels="cost_centre=4711\nproject=atlas=2",
        max_tokens="4000",
        default_max_tokens="1000",
        adaptive_weights="on",
        **{f"weight_{other.pk}": "3"},
    )
    key = opened_by(secret(response)).virtual_key
    assert (key.owner, key.team, key.adaptive_weights) == ("alice@example.com", team, True)
    assert (key.allowed_models, key.denied_models) == (["claude-*", "echo-1"], ["claude-opus-*"])
    assert (key.fallback_models, key.max_tokens, key.default_max_tokens) == (["echo-1"], 4000, 1000)
    assert key.labels == {"cost_centre": "4711", "project": "atlas=2"}
    assert abs(key.expires_at - soon) < timedelta(minutes=1)
    assert dict(key.routes.values_list("provider_key__name", "weight")) == {"echo": 1, "other": 3}
    assert sorted(map(str, key.budgets.values_list("period", "unit", "amount", "enforcement"))) == [
        "('day', 'usd', Decimal('20.000000000000'), 'hard')",
        "('quarter', 'usd', Decimal('50.000000000000'), 'expected')",
        "('week', 'tokens', Decimal('5000000.000000000000'), 'soft')",
    ]
    assert dict(key.limits.values_list("kind", "rate")) == {"input_tpm": 100000, "output_tpm": 20000, "parallel": 8}


def test_models_are_picked_from_what_the_provider_keys_serve(boss):
    claude = make_provider_key("claude", model_patterns=["claude-*"])
    make_provider_key("named", model_patterns=["model-a", "model-b"])
    assert LISTED  # the column that the relay reads, too
    ModelList.objects.create(provider_key=claude, listed=[{"id": "claude-haiku-4-5"}, {"id": "gpt-5"}])
    page = boss.get(reverse("admin:keys_virtualkey_add"))
    assert [model.name for model in page.context["form"].offered] == ["claude-haiku-4-5", "model-a", "model-b"]
    ask(boss, name="ci", new_customer="Acme", picked=["model-a", "claude-haiku-4-5"], allowed_models="claude-opus-*")
    assert VirtualKey.objects.get().allowed_models == ["model-a", "claude-haiku-4-5", "claude-opus-*"]
    refused = ask(boss, name="two", new_customer="Acme", picked=["model-a"], provider_keys=[claude.pk])
    assert "none of its provider keys serves “model-a”" in faults(refused)["allowed_models"]


@pytest.mark.parametrize(
    ("fields", "field", "fault"),
    [
        ({"name": ""}, "name", "required"),
        ({"name": "(passed through)"}, "name", "reserves the name"),
        ({"name": "x" * 201}, "name", "at most 200"),
        ({"new_customer": "", "team": "9" * 40}, "team", ""),
        ({"name": "a\u0000b"}, "name", "Null characters"),
        ({"new_customer": ""}, "team", "Say who pays"),
        ({"new_customer": "", "new_team": "Sales"}, "new_customer", "Say who pays"),
        ({"new_customer": "a\u202eb"}, "new_customer", "don't print"),
        ({"provider_keys": []}, "provider_keys", "required"),
        ({"provider_keys": ["999999"]}, "provider_keys", "not one of the available"),
        ({"picked": ["no-such-model"]}, "picked", "not one of the available"),
        ({"allowed_models": "né"}, "allowed_models", "is not a model name or pattern"),
        ({"fallback_models": "claude-*"}, "fallback_models", "is a pattern"),
        ({"budget": "-1"}, "budget", "greater than or equal to 0"),
        ({"budget": "1e400"}, "budget", ""),
        ({"budget": "NaN"}, "budget", "Enter a number"),
        ({"budget": "5", "period": "without"}, "period", "Choose a period"),
        ({"period": "none"}, "period", "valid choice"),
        ({"more_budgets": "20"}, "more_budgets", "isn't a budget"),
        ({"budget": "5", "more_budgets": "20/month"}, "more_budgets", "same period"),
        ({"rpm": "0"}, "rpm", "greater than or equal to 1"),
        ({"parallel": "9" * 30}, "parallel", "less than or equal to"),
        ({"expires_at": "2020-01-01T00:00"}, "expires_at", "in the past"),
        ({"expires_at": "soon"}, "expires_at", "valid date"),
        ({"labels": "cost_centre"}, "labels", "expected NAME=VALUE"),
        ({"labels": "\n".join(f"a{n}=b" for n in range(21))}, "labels", "at most 20"),
        ({"max_tokens": "10", "default_max_tokens": "20"}, "default_max_tokens", ""),
        ({"owner": "a\u202eb"}, "owner", "The owner contains characters that don't print"),
    ],
)
def test_a_fault_is_shown_at_its_field_and_what_was_typed_stays(boss, echo, fields, field, fault):
    response = ask(boss, **({"name": "ci", "new_customer": "Acme", "labels": "kept=yes"} | fields))
    assert list(faults(response)) == [field]
    assert fault in faults(response)[field]
    if "labels" not in fields:
        assert "kept=yes" in text(response)
    assert not VirtualKey.objects.exists()
    assert not Customer.objects.exists()


def test_a_name_that_is_taken_is_a_fault_of_the_name(boss, echo):
    key, _ = make_key("ci")
    assert "already has a virtual key “ci”" in faults(ask(boss, name="ci", team=key.team_id))["name"]


def test_one_field_alone_says_which_team_pays(boss, echo):
    team = make_key("first")[0].team
    other = Customer.objects.create(name="Globex")
    for fields, field in (
        ({"team": team.pk, "customer": other.pk}, "customer"),
        ({"team": team.pk, "new_customer": "New"}, "new_customer"),
        ({"team": team.pk, "new_team": "New"}, "new_team"),
        ({"customer": other.pk, "new_customer": "New"}, "new_customer"),
    ):
        assert list(faults(ask(boss, name="ci", **fields))) == [field]
    ask(boss, name="ci", team=team.pk, customer=team.customer_id)
    assert VirtualKey.objects.filter(name="ci").get().team == team


def test_issue_like_this_one_fills_in_all_but_the_name(boss, echo):
    later = timezone.now() + timedelta(days=9)
    key, _ = make_key(
        "ci",
        owner="alice",
        allowed_models=["echo-*"],
        denied_models=["x"],
        labels={"a": "b"},
        max_tokens=99,
        expires_at=later,
    )
    Budget.objects.create(virtual_key=key, amount=50, period="week")
    Budget.objects.create(virtual_key=key, amount=7, unit="tokens", period="day", enforcement="soft")
    Budget.objects.create(virtual_key=key, amount=3, period="day", model_patterns=["x-*"])
    Limit.objects.create(virtual_key=key, kind="rpm", rate=60)
    page = boss.get(reverse("admin:keys_virtualkey_add"), {"like": key.pk})
    form = page.context["form"]
    shown = {name: form[name].value() for name in form.fields if form[name].value()}
    assert "name" not in shown
    assert shown["team"] == key.team_id
    assert (shown["owner"], shown["allowed_models"], shown["denied_models"]) == ("alice", "echo-*", "x")
    assert (shown["budget"], shown["period"], shown["more_budgets"]) == ("50", "week", "7tokens/day/soft")
    assert (shown["rpm"], shown["labels"], shown["max_tokens"]) == (60, "a=b", 99)
    assert "It is not copied: $3 a day for virtual key ci" in text(page)
    sent = {name: value for name, value in shown.items() if name not in ("expires_at", "adaptive_weights")}
    secret(ask(boss, **sent, name="two", expires_at=f"{later:%Y-%m-%dT%H:%M}"))
    two = VirtualKey.objects.get(name="two")
    assert two.budgets.count() == 2
    assert two.limits.get().rate == 60


def test_issue_like_this_one_names_what_the_form_can_not_say_of_a_budget_or_limit(boss, echo):
    key, _ = make_key("ci")
    Budget.objects.create(virtual_key=key, amount=50, thresholds=[50, 80])
    Budget.objects.create(virtual_key=key, amount=5, period="day")
    Limit.objects.create(virtual_key=key, kind="rpm", rate=60)
    Limit.objects.create(virtual_key=key, kind="input_tpm", rate=9000, burst=2000, count_cached=True)
    page = boss.get(reverse("admin:keys_virtualkey_add"), {"like": key.pk})
    assert page.context["left_out"] == [
        f"Not copied of {Budget.objects.get(amount=50)}: its alerts at 50, 80 %.",
        f"Not copied of {Limit.objects.get(rate=9000)}: its burst of 2,000 and that it counts cached tokens.",
    ]


def test_a_key_that_the_person_may_not_see_is_no_template(echo):
    key, _ = make_key("ci", owner="secret-owner")
    sales = Team.objects.create(customer=key.customer, name="Sales")
    page = signed_in(Role.TEAM_ADMIN, team=sales).get(reverse("admin:keys_virtualkey_add"), {"like": key.pk})
    assert "secret-owner" not in text(page)


@pytest.mark.parametrize("text_", ["x", "9" * 40, "-1", "1 OR 1"])
def test_a_url_that_names_no_key_shows_the_empty_form(boss, text_):
    page = boss.get(reverse("admin:keys_virtualkey_add"), {"like": text_, "team": text_, "customer": text_})
    assert page.status_code == 200


def test_a_team_admin_issues_keys_of_own_teams_only(echo):
    key, _ = make_key("first")
    sales = Team.objects.create(customer=key.customer, name="Sales")
    admin = signed_in(Role.TEAM_ADMIN, team=key.team)
    form = admin.get(reverse("admin:keys_virtualkey_add")).context["form"]
    assert list(form.fields["team"].queryset) == [key.team]
    assert {"new_team", "new_customer"}.isdisjoint(form.fields)
    secret(ask(admin, name="own", team=key.team_id, budget="5", rpm="6"))
    assert "team" in faults(ask(admin, name="theirs", team=sales.pk))
    assert "may not issue keys" in faults(ask(admin, name="none", customer=key.customer_id))["team"]
    assert "team" in faults(ask(admin, name="new", new_customer="Mine", new_team="Mine"))
    assert set(VirtualKey.objects.values_list("name", flat=True)) == {"first", "own"}
    assert not Customer.objects.exclude(name="Acme").exists()


def test_a_key_admin_of_a_customer_adds_teams_to_it_and_no_customer(echo):
    acme = Customer.objects.create(name="Acme")
    Customer.objects.create(name="Globex")
    admin = signed_in(Role.KEY_ADMIN, customer=acme)
    assert "may not add customers" in faults(ask(admin, name="ci", new_customer="New"))["new_customer"]
    # A name that exists, and that this person doesn't see, is like one that doesn't.
    assert "may not add customers" in faults(ask(admin, name="ci", new_customer="Globex"))["new_customer"]
    secret(ask(admin, name="ci", customer=acme.pk, new_team="Research"))
    assert VirtualKey.objects.get().team == Team.objects.get(name="Research", customer=acme)


@pytest.mark.parametrize("role", [Role.FINANCE, Role.AUDITOR, Role.BILLING_ADMIN, Role.MEMBER])
@pytest.mark.parametrize("name", ["admin:keys_virtualkey_add", "admin:issue_many"])
def test_a_person_without_the_right_to_issue_keys_gets_neither_page(echo, role, name):
    person = signed_in(role)
    url = reverse(name)
    assert person.get(url).status_code == 403
    form = terms(name="ci", names="ci", new_customer="Acme", confirmed="yes")
    assert person.post(url, form).status_code == 403
    assert not VirtualKey.objects.exists()


def test_a_person_who_may_only_issue_keys_sees_no_budgets_and_needs_none(echo):
    customer = Customer.objects.create(name="Acme")
    bob = User.objects.create(username="bob", is_staff=True)
    bob.user_permissions.set(Permission.objects.filter(codename__in=["add_virtualkey", "view_virtualkey"]))
    client = Client()
    client.force_login(bob)
    assert "budget" not in client.get(reverse("admin:keys_virtualkey_add")).context["form"].fields
    secret(ask(client, name="ci", customer=customer.pk, budget="5", rpm="6"))
    assert not Budget.objects.exists()
    assert not Limit.objects.exists()


def test_without_a_provider_key_the_page_says_what_to_do(boss):
    page = text(boss.get(reverse("admin:keys_virtualkey_add")))
    assert "No provider key is active" in page
    assert reverse("admin:keys_providerkey_add") in page


def test_the_page_takes_the_same_queries_however_many_teams_there_are(boss, echo, django_assert_max_num_queries):
    acme = Customer.objects.create(name="Acme")
    Team.objects.bulk_create(Team(customer=acme, name=f"Team {number}") for number in range(3000))
    # The first page of a session records it.
    boss.get(reverse("admin:keys_virtualkey_add"))
    with django_assert_max_num_queries(16):
        page = boss.get(reverse("admin:keys_virtualkey_add"))
    assert "Team 2999" not in text(page)
    query = {"app_label": "keys", "model_name": "virtualkey", "field_name": "team", "term": "team 2999"}
    found = boss.get(reverse("admin:autocomplete"), query).json()["results"]
    assert [each["text"] for each in found] == ["Acme / Team 2999"]


def test_first_calls_are_shown_for_each_client_with_the_key_in_them(boss, echo):
    response = ask(boss, name="ci", new_customer="Acme", allowed_models="echo-1")
    plain, page = secret(response), text(response)
    for said in (
        f'-H "x-api-key: {plain}"',
        f'Anthropic(base_url="http://testserver", api_key="{plain}")',
        f'new Anthropic({{ baseURL: "http://testserver", apiKey: "{plain}" }})',
        f"export ANTHROPIC_AUTH_TOKEN={plain}",
        '"model": "echo-1"',
    ):
        assert said in page
    assert page.count("data-copy=") == 6
    assert "keys/copy.js" in page


def test_a_request_from_another_site_issues_nothing(echo):
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("boss", password=None))
    assert ask(client, name="ci", new_customer="Acme").status_code == 403
    assert not Customer.objects.exists()


def test_an_issued_key_costs_what_its_terms_say(boss, echo):
    ask(boss, name="ci", new_customer="Acme", budget="0.25")
    assert Budget.objects.get().amount == Decimal("0.25")
    assert issuing.stale_credentials() == 0
