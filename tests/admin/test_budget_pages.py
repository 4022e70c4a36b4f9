"""Budgets and limits in the admin: see tests/admin/test_key_pages.py for the pages about keys."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from keys.models import Customer
from tests.support.admin_forms import change
from tests.support.issued import make_key
from tests.support.owner import own_secrets as own_secrets
from usage.models import Alert, Budget, Limit, LimitState, Override, TopUp, Window

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice():
    return make_key()[0]


@pytest.fixture
def admin(client):
    client.force_login(User.objects.create_superuser("finance", password=None))
    return client


def page(model, what, *arguments, app="usage"):
    return reverse(f"admin:{app}_{model}_{what}", args=arguments)


def none_of(*names):
    """Inlines as a browser sends them where nothing was added."""
    return {f"{name}-{forms}_FORMS": 0 for name in names for forms in ("TOTAL", "INITIAL")}


def budget_form(**changes):
    plain = {"unit": "usd", "amount": "100", "period": "month", "enforcement": "hard", "thresholds": "", "active": "on"}
    return plain | {"model_patterns": ""} | changes


def add(client, model, **form):
    return client.post(page(model, "add"), form)


def said(response):
    """The text of a page, as a reader sees it."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def spend(budget, spent, held=0, until=None):
    """A window of now in which so much is spent and held."""
    until = until or timezone.now() + timedelta(days=1)
    start = timezone.now() - timedelta(days=1)
    return Window.objects.create(budget=budget, start=start, until=until, spent=spent, held=held)


@pytest.mark.parametrize("owner", ["customer", "team", "virtual_key"])
def test_a_budget_is_added_for_each_kind_of_owner(admin, alice, owner):
    whose = {"customer": alice.customer, "team": alice.team, "virtual_key": alice}[owner]
    form = budget_form(**{owner: whose.pk}, thresholds="80, 50, 80", model_patterns="claude-*, echo")
    assert add(admin, "budget", **form).status_code == 302
    budget = Budget.objects.get()
    assert getattr(budget, owner) == whose
    assert (budget.amount, budget.thresholds) == (Decimal(100), [50, 80])
    assert budget.model_patterns == ["claude-*", "echo"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"team": "", "customer": ""}, "exactly one customer, team or virtual key"),
        ({"virtual_key": "alice"}, "exactly one customer, team or virtual key"),
        ({"provider_key": "echo"}, "Only what belongs to a virtual key"),
        ({"amount": "-1"}, "greater than or equal to 0"),
        ({"amount": "NaN"}, "Enter a number"),
        ({"amount": "0.5", "unit": "tokens"}, "An amount of tokens must be a whole number"),
        ({"period": "none"}, "the sum of its top-ups: leave it at 0"),
        ({"period": "none", "amount": "0", "rolling": "on"}, "no windows that could roll"),
        ({"period": "fortnight"}, "not one of the available choices"),
        ({"thresholds": "50, 0"}, "a threshold: expected percentages from 1 to 1000"),
        ({"thresholds": "much"}, "whole number"),
        ({"model_patterns": "a b"}, "not a model name or pattern"),
    ],
)
def test_impossible_terms_are_refused_with_what_is_wrong(admin, alice, changes, complaint):
    named = {"virtual_key": {"alice": alice.pk}, "provider_key": {"echo": alice.provider_keys.get().pk}}
    changes = {name: named.get(name, {}).get(value, value) for name, value in changes.items()}
    response = add(admin, "budget", **budget_form(**{"team": alice.team_id} | changes))
    assert response.status_code == 200
    assert complaint in said(response)
    assert not Budget.objects.exists()


def test_a_budget_of_the_same_owner_period_and_scope_is_not_made_twice(admin, alice):
    form = budget_form(team=alice.team_id, model_patterns="claude-*, echo")
    add(admin, "budget", **form)
    response = add(admin, "budget", **form | {"amount": "7", "model_patterns": "echo, claude-*"})
    assert "This owner already has a budget with this unit, period and scope" in said(response)
    assert add(admin, "budget", **form | {"unit": "tokens"}).status_code == 302
    assert Budget.objects.count() == 2


def test_the_amount_changes_and_what_was_counted_keeps_its_meaning(admin, alice):
    budget = Budget.objects.create(team=alice.team, amount=1)
    form = budget_form(amount="5", period="day", unit="tokens", virtual_key=alice.pk) | none_of("overrides")
    assert change(admin, page("budget", "change", budget.pk), form).status_code == 302
    budget.refresh_from_db()
    assert (budget.amount, budget.period, budget.unit, budget.virtual_key) == (Decimal(5), "month", "usd", None)


@pytest.mark.parametrize(
    ("amount", "spent", "held", "left"),
    [
        (0, 0, 0, "$0.00 nothing of $0.00"),
        (0, -1, 0, "$1.00 more than $0.00"),
        (0, -1, 2, "-$1.00 nothing of $0.00"),
        (10, -5, 0, "$15.00 150% of $10.00"),
        (10, 12, 0, "-$2.00 nothing of $10.00"),
    ],
)
def test_lists_and_pages_bear_budgets_of_nothing_and_adjustments_below_it(admin, alice, amount, spent, held, left):
    budget = Budget.objects.create(team=alice.team, amount=amount)
    spend(budget, spent, held)
    for address in (
        page("budget", "changelist"),
        page("budget", "change", budget.pk),
        page("team", "change", alice.team_id, app="keys"),
    ):
        assert left in said(admin.get(address))


def test_lists_and_pages_show_what_is_left(admin, alice, django_assert_max_num_queries):
    Customer.objects.update(time_zone="Europe/Berlin")
    budget = Budget.objects.create(team=alice.team, amount=100)
    spend(budget, Decimal("12.5"), Decimal("0.25"), until=datetime(2100, 1, 1, tzinfo=UTC))
    for number in range(20):
        Budget.objects.create(virtual_key=alice, amount=number, model_patterns=[f"model-{number}"])
    # The first page of a session records it.
    admin.get(page("budget", "changelist"))
    with django_assert_max_num_queries(12):
        listed = said(admin.get(page("budget", "changelist")))
    assert (
        "team Acme / Research all models $100 a month hard $12.50 spent, $0.25 held $87.25 87% of $100.00"
        " 2100-01-01 01:00 Europe/Berlin" in listed
    )
    shown = said(admin.get(page("budget", "change", budget.pk)))
    assert "$87.25" in shown
    assert "1 Jan 2100 00:00 UTC $12.50 $0.25" in shown


def test_an_owners_page_shows_its_budgets_and_takes_new_ones(admin, alice):
    budget = Budget.objects.create(team=alice.team, amount=100)
    Budget.objects.create(team=alice.team, amount=77).delete_softly()
    spend(budget, Decimal("12.5"))
    address = page("team", "change", alice.team_id, app="keys")
    shown = said(admin.get(address))
    assert "$12.50 spent Left: $87.50 88% of $100.00" in shown
    assert "77" not in shown
    new = {f"budgets-1-{name}": value for name, value in budget_form(amount="5", period="day").items()}
    limit = {"limits-0-kind": "rpm", "limits-0-rate": "60", "limits-0-burst": "", "limits-0-model_patterns": ""}
    management = {"budgets-TOTAL_FORMS": 2, "budgets-INITIAL_FORMS": 1, "budgets-0-id": budget.pk}
    management |= {"limits-TOTAL_FORMS": 1, "limits-INITIAL_FORMS": 0} | none_of("key_rules")
    response = change(admin, address, {"name": "Research"} | management | new | limit)
    assert response.status_code == 302, said(response)
    assert sorted(alice.team.budgets.filter(active=True).values_list("amount", "period")) == [
        (5, "day"),
        (100, "month"),
    ]
    assert alice.team.limits.get().rate == 60


@pytest.mark.parametrize("model", ["customer", "virtualkey"])
def test_pages_of_customers_and_keys_show_their_budgets_too(admin, alice, model):
    owner = {"customer": alice.customer, "virtualkey": alice}[model]
    field = {"customer": "customer", "virtualkey": "virtual_key"}[model]
    spend(Budget.objects.create(**{field: owner}, amount=100), Decimal("12.5"))
    assert "$87.50" in said(admin.get(page(model, "change", owner.pk, app="keys")))


def test_a_customer_has_a_time_zone_a_fiscal_year_and_a_language(admin, alice):
    address = page("customer", "change", alice.customer_id, app="keys")
    form = {"name": "Acme", "time_zone": "Europe/Berlin", "fiscal_year_month": "4", "language": "de"}
    form |= none_of("budgets", "limits")
    assert change(admin, address, form).status_code == 302
    customer = Customer.objects.get()
    assert (customer.time_zone, customer.fiscal_year_month, customer.language) == ("Europe/Berlin", 4, "de")
    assert "not the IANA time zone of a place" in said(change(admin, address, form | {"time_zone": "CET"}))
    assert "less than or equal to 12" in said(change(admin, address, form | {"fiscal_year_month": "13"}))


def test_a_prepaid_budget_is_topped_up_by_who_is_logged_in(admin, alice):
    budget = Budget.objects.create(customer=alice.customer, period="none")
    form = budget_form() | none_of("overrides", "top_ups")
    one = {"top_ups-TOTAL_FORMS": 1, "top_ups-0-amount": "5", "top_ups-0-reason": "invoice 7"}
    forged = {"top_ups-0-author": "somebody else"}
    response = change(admin, page("budget", "change", budget.pk), form | one | forged)
    assert response.status_code == 302, said(response)
    add(admin, "topup", budget=budget.pk, amount="-2", reason="typing error")
    assert list(TopUp.objects.order_by("pk").values_list("amount", "reason", "author")) == [
        (Decimal(5), "invoice 7", "finance"),
        (Decimal(-2), "typing error", "finance"),
    ]
    budget.refresh_from_db()
    assert budget.amount == 3
    assert LogEntry.objects.filter(content_type__model="topup").get().object_id == str(TopUp.objects.latest("pk").pk)


@pytest.mark.parametrize(
    ("period", "form", "complaint"),
    [
        ("none", {"amount": "5", "reason": ""}, "required"),
        ("none", {"amount": "0", "reason": "x"}, "The amount of a top-up can&#x27;t be zero"),
        ("none", {"amount": "", "reason": "x"}, "required"),
        ("month", {"amount": "5", "reason": "x"}, "Only a prepaid budget"),
    ],
)
def test_a_top_up_that_says_too_little_is_refused(admin, alice, period, form, complaint):
    budget = Budget.objects.create(team=alice.team, period=period)
    assert complaint in said(add(admin, "topup", budget=budget.pk, **form))
    assert not TopUp.objects.exists()


def test_a_budget_is_overridden_for_a_number_of_windows_or_until_a_date(admin, alice):
    budget = Budget.objects.create(team=alice.team, amount=1, period="day")
    empty = {"windows": "", "until": ""}
    add(admin, "override", **empty | {"budget": budget.pk, "amount": "7", "windows": "2", "reason": "launch"})
    form = budget_form(amount="1") | none_of("overrides") | {"overrides-TOTAL_FORMS": 1}
    form |= {"overrides-0-amount": "9", "overrides-0-windows": "", "overrides-0-reason": "fair"}
    form |= {"overrides-0-until": "2100-01-01T00:00"}
    # There is one already, which the page shows.
    form |= {"overrides-TOTAL_FORMS": 2, "overrides-INITIAL_FORMS": 1, "overrides-0-id": Override.objects.get().pk}
    form = {
        name.replace("overrides-0-", "overrides-1-") if name != "overrides-0-id" else name: form[name] for name in form
    }
    response = change(admin, page("budget", "change", budget.pk), form)
    assert response.status_code == 302, said(response)
    first, second = Override.objects.order_by("pk")
    assert (first.amount, first.windows, first.author) == (Decimal(7), 2, "finance")
    assert timedelta(days=1) < first.until - timezone.now() <= timedelta(days=2)
    assert (second.amount, second.windows, second.until) == (Decimal(9), None, datetime(2100, 1, 1, tzinfo=UTC))
    assert "overridden: $9.00" in said(admin.get(page("budget", "changelist")))


@pytest.mark.parametrize(
    ("period", "form", "complaint"),
    [
        ("day", {}, "Enter either a number"),
        ("day", {"windows": "1", "until": "2100-01-01T00:00"}, "Enter either a number"),
        ("day", {"windows": "0"}, "greater than or equal to 1"),
        ("day", {"windows": "1000000000"}, "less than or equal to 1000"),
        ("day", {"until": "2020-01-01T00:00"}, "This is in the past"),
        ("day", {"amount": "-1", "windows": "1"}, "greater than or equal to 0"),
        ("none", {"windows": "1"}, "A prepaid budget has no windows"),
        ("day", {"windows": "1", "reason": ""}, "required"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(admin, alice, period, form, complaint):
    budget = Budget.objects.create(team=alice.team, period=period)
    plain = {"budget": budget.pk, "amount": "5", "windows": "", "until": "", "reason": "x"}
    assert complaint in said(add(admin, "override", **plain | form))
    assert not Override.objects.exists()


@pytest.mark.parametrize("model", ["topup", "override"])
def test_what_was_recorded_is_never_edited(admin, alice, model):
    budget = Budget.objects.create(team=alice.team, period="none")
    row = {
        "topup": lambda: budget.top_up(Decimal(5), reason="x", author="y"),
        "override": lambda: budget.override(Decimal(5), until=timezone.now() + timedelta(1), reason="x", author="y"),
    }[model]()
    address = page(model, "change", row.pk)
    assert admin.get(address).status_code == 200
    assert admin.post(address, {"reason": "z"}).status_code == 403
    assert admin.post(page(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert "5" in said(admin.get(page(model, "changelist")))


def test_a_deleted_budget_is_kept_and_can_only_be_looked_at(admin, alice):
    budget = Budget.objects.create(team=alice.team, amount=1)
    admin.post(page("budget", "changelist"), {"action": "delete_softly", "_selected_action": budget.pk})
    budget.refresh_from_db()
    assert budget.deleted_at
    assert not budget.active
    assert "deleted" in said(admin.get(page("budget", "change", budget.pk)))
    assert admin.post(page("budget", "change", budget.pk), budget_form()).status_code == 403
    assert admin.post(page("budget", "delete", budget.pk), {"post": "yes"}).status_code == 403


def test_a_limit_is_added_and_changed(admin, alice):
    form = {"kind": "rpm", "rate": "60", "burst": "", "model_patterns": "", "active": "on"}
    assert add(admin, "limit", virtual_key=alice.pk, **form).status_code == 302
    limit = Limit.objects.get()
    change(admin, page("limit", "change", limit.pk), form | {"kind": "parallel", "rate": "90", "burst": "20"})
    limit.refresh_from_db()
    assert (limit.kind, limit.rate, limit.burst) == ("rpm", 90, 20)
    assert "20 at once 0 of 20 used" in said(admin.get(page("limit", "changelist")))


@pytest.mark.parametrize(("kind", "at_once"), [("rpm", 10), ("output_tpm", 6)])
def test_the_burst_is_shown_with_every_limit(admin, alice, kind, at_once):
    limit = Limit.objects.create(virtual_key=alice, kind=kind, rate=60)
    assert f"{at_once} at once" in said(admin.get(page("limit", "changelist")))
    assert f"{at_once} at once" in said(admin.get(page("limit", "change", limit.pk)))
    assert f"0 of {at_once} at once used" in said(admin.get(page("virtualkey", "change", alice.pk, app="keys")))
    assert "Empty: a sixth of the requests a minute" in said(admin.get(page("limit", "add")))


def test_lists_of_limits_show_how_they_stand(admin, alice, django_assert_max_num_queries):
    for number in range(20):
        Limit.objects.create(team=alice.team, kind="parallel", rate=number + 1)
    limit = Limit.objects.create(virtual_key=alice, kind="parallel", rate=50)
    LimitState.objects.create(limit=limit, full_at=timezone.now(), running=3)
    # The first page of a session records it.
    admin.get(page("limit", "changelist"))
    with django_assert_max_num_queries(12):
        assert "3 of 50 run" in said(admin.get(page("limit", "changelist")))
    assert "3 of 50 run" in said(admin.get(page("limit", "change", limit.pk)))
    assert "3 of 50 run" in said(admin.get(page("virtualkey", "change", alice.pk, app="keys")))


def test_a_customer_is_added_with_its_budget(admin):
    address = page("customer", "add", app="keys")
    assert admin.get(address).status_code == 200
    form = {"name": "New", "time_zone": "Asia/Tokyo", "fiscal_year_month": "1", "language": "en"}
    form |= none_of("limits") | {"budgets-TOTAL_FORMS": 1, "budgets-INITIAL_FORMS": 0}
    form |= {f"budgets-0-{name}": value for name, value in budget_form().items()}
    assert admin.post(address, form).status_code == 302
    assert Customer.objects.get(name="New").budgets.get().amount == 100


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rate": "0"}, "greater than or equal to 1"),
        ({"rate": "-5"}, "greater than or equal to"),
        ({"kind": "parallel", "burst": "3"}, "A limit of calls at once has no burst"),
        ({"customer": "Acme"}, "exactly one"),
    ],
)
def test_an_impossible_limit_is_refused(admin, alice, changes, complaint):
    form = {"kind": "rpm", "rate": "60", "burst": "", "model_patterns": "", "active": "on", "team": alice.team_id}
    changes = {name: alice.customer_id if value == "Acme" else value for name, value in changes.items()}
    assert complaint in said(add(admin, "limit", **form | changes))
    assert not Limit.objects.exists()


def test_lists_show_what_applies_unless_the_rest_is_asked_for(admin, alice):
    Budget.objects.create(team=alice.team, amount=71)
    Budget.objects.create(team=alice.team, amount=72, active=False)
    Budget.objects.create(team=alice.team, amount=73).delete_softly()
    address = page("budget", "changelist")
    found = {
        state: set(re.findall(r"\$(\d+) a month", said(admin.get(address, {"state": state} if state else {}))))
        for state in ("", "off", "deleted", "any")
    }
    assert found == {"": {"71"}, "off": {"72"}, "deleted": {"73"}, "any": {"71", "72", "73"}}
    assert "all models deleted $73" in said(admin.get(address, {"state": "deleted"}))


def test_limits_show_what_is_used(admin, alice):
    limit = Limit.objects.create(team=alice.team, kind="rpm", rate=600)
    Limit.objects.create(virtual_key=alice, kind="parallel", rate=20)
    Limit.objects.create(virtual_key=alice, kind="input_tpm", rate=4_000_000, burst=5_000, count_cached=True)
    LimitState.objects.create(limit=limit, full_at=timezone.now() + timedelta(hours=1))
    listed = said(admin.get(page("limit", "changelist")))
    assert "600 requests a minute 100 at once 100 of 100 used" in listed
    assert "20 calls at once 0 of 20 run" in listed
    assert "4,000,000 input tokens a minute 5,000 at once, cached input counts 0 of 5,000 used" in listed


@pytest.mark.parametrize(
    ("model", "what_to_do"),
    [
        ("budget", "manage.py set_budget"),
        ("limit", "manage.py set_limit"),
        ("topup", "manage.py top_up"),
        ("override", "Add one here"),
        ("alerttarget", "Add an e-mail address"),
        ("alert", "where alerts are sent"),
        ("delivery", "an alert target"),
        ("retained", "nothing to do"),
    ],
)
def test_an_empty_list_says_what_to_do(admin, model, what_to_do):
    assert what_to_do in said(admin.get(page(model, "changelist")))


def test_a_search_that_finds_nothing_says_so(admin, alice):
    Budget.objects.create(team=alice.team, amount=1)
    text = said(admin.get(page("budget", "changelist"), {"q": "nobody"}))
    assert "Nothing matches." in text
    assert "set_budget" not in text


def test_lists_of_what_was_done_name_the_budget_and_the_amount(admin, alice):
    prepaid = Budget.objects.create(team=alice.team, period="none")
    prepaid.top_up(Decimal("1234.5"), reason="invoice", author="x")
    assert "team Acme / Research $1,234.50 prepaid $1,234.50 invoice" in said(admin.get(page("topup", "changelist")))
    Budget.objects.create(virtual_key=alice, amount=1, unit="tokens").override(
        Decimal(5000), windows=1, reason="launch", author="x"
    )
    assert "virtual key alice of Acme / Research 1 tokens a month 5,000 tokens" in said(
        admin.get(page("override", "changelist"))
    )
    budget = Budget.objects.create(customer=alice.customer, amount=10_000, period="quarter", thresholds=[80])
    Alert.objects.create(
        budget=budget,
        start=timezone.now(),
        threshold=80,
        spent=Decimal(8300),
        amount=Decimal(10_000),
        at=timezone.now(),
    )
    listed = said(admin.get(page("alert", "changelist")))
    assert "customer Acme $10,000 a quarter 80 % $8,300.00 of $10,000.00" in listed


def test_a_person_who_may_only_view_changes_nothing(alice):
    budget = Budget.objects.create(team=alice.team, amount=1)
    bob = User.objects.create(username="bob", is_staff=True)
    bob.user_permissions.set(Permission.objects.filter(codename__in=["view_budget", "view_topup"]))
    client = Client()
    client.force_login(bob)
    assert client.get(page("budget", "change", budget.pk)).status_code == 200
    assert client.post(page("budget", "change", budget.pk), budget_form()).status_code == 403
    assert add(client, "topup", budget=budget.pk, amount="5", reason="x").status_code == 403
    client.post(page("budget", "changelist"), {"action": "delete_softly", "_selected_action": budget.pk})
    budget.refresh_from_db()
    assert budget.active


def test_a_list_of_budgets_answers_no_questions_about_secrets(admin):
    lookup = {"virtual_key__credentials__digest__gt": "a"}
    assert admin.get(page("budget", "changelist"), lookup).status_code == 400
