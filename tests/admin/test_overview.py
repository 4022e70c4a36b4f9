"""The front page: today's numbers, budgets and provider keys in danger, and the path to a first call."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from administration import overview
from administration.charts import HEIGHT, Chart, Series
from keys.models import Cooldown, CooldownReason, Customer, ProviderKey, Team, VirtualKey
from tests.support.issued import make_key
from tests.support.ledger_rows import empty_ledger, make_entry
from tests.support.scale import SUMMED
from usage import request_ids, rollups
from usage.budgets import Budget, Period, Window
from usage.models import Refusal

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)  # a Wednesday


@pytest.fixture(autouse=True)
def own_secrets(settings, tmp_path):
    settings.VAR_DIR = tmp_path
    empty_ledger()


@pytest.fixture
def owner() -> User:
    return User.objects.create_superuser("owner")


def front_page(client: Client) -> str:
    answer = client.get(reverse("admin:index"))
    assert answer.status_code == 200
    return answer.content.decode()


def roll_up() -> None:
    """Sum what this test has written. Its transaction is still open, so it would be left for later otherwise."""
    with connection.cursor() as cursor:
        cursor.execute(SUMMED)


def test_an_empty_database_shows_five_steps_of_which_the_first_is_next(admin_client):
    shown = front_page(admin_client)
    steps = re.search(r'<section class="card steps".*?</section>', shown, re.S)
    assert steps
    assert re.findall(r'<li class="(\w*)">', steps[0]) == ["next", "", "", "", ""]
    assert reverse("admin:keys_providerkey_add") in steps[0]


def test_each_step_gets_its_check_mark_and_the_last_one_ends_the_path(admin_client):
    key, _ = make_key()
    shown = front_page(admin_client)
    assert re.findall(r'<li class="(\w*)">\s*<span class="mark"', shown) == [*["done"] * 4, "next"]
    assert shown.count("✓") == 4
    make_entry(key)
    shown = front_page(admin_client)
    assert "Five steps" not in shown
    assert "Spent today" in shown


def test_a_step_is_filled_in_with_the_one_before_and_leads_back(admin_client):
    def link(model: str) -> str:
        found = re.search(rf'href="({reverse(f"admin:keys_{model}_add")}[^"]*)"', front_page(admin_client))
        assert found
        return html.unescape(found[1])

    inlines = ("budgets", "limits", "key_rules")
    none = {f"{name}-{kind}_FORMS": "0" for name in inlines for kind in ("TOTAL", "INITIAL")}
    sent = {"name": "Acme", "time_zone": "UTC", "fiscal_year_month": "1", "language": "en"}
    answer = admin_client.post(link("customer"), none | sent)
    assert answer.headers["location"] == reverse("admin:index")
    acme = Customer.objects.get()
    team = link("team")
    assert str(admin_client.get(team).context["adminform"].form["customer"].value()) == str(acme.pk)
    assert admin_client.post(team, none | {"name": "Research", "customer": acme.pk}).status_code == 302
    form = admin_client.get(link("virtualkey")).context["form"]
    assert form["team"].value() == Team.objects.get().pk
    # Elsewhere, a form leads to its list.
    answer = admin_client.post(reverse("admin:keys_customer_add"), none | sent | {"name": "Globex"})
    assert answer.headers["location"] == reverse("admin:keys_customer_changelist")


def test_the_snippet_names_a_model_that_the_key_may_use_and_no_secret(admin_client):
    _, plain = make_key(allowed_models=["echo-1"])
    shown = front_page(admin_client)
    assert "&quot;model&quot;: &quot;echo-1&quot;" in shown or '"model": "echo-1"' in shown
    assert "http://testserver/v1/messages" in shown
    assert plain not in shown


def test_today_is_compared_with_yesterday_at_this_time(owner):
    key, _ = make_key()
    for at, cost in (
        (NOON - timedelta(hours=1), "3"),
        (NOON - timedelta(hours=25), "2"),
        # Yesterday, but later than now.
        (NOON - timedelta(hours=23), "50"),
        (NOON - timedelta(days=10), "100"),
        (NOON - timedelta(days=20), "700"),
    ):
        make_entry(key, at, cost=cost)
    roll_up()
    found = overview.spend(owner, NOON)
    assert [found.today, found.yesterday, found.month] == [Decimal(3), Decimal(2), Decimal(155)]
    assert found.change == 50


def test_the_month_is_compared_with_the_monthly_budgets_of_customers(owner):
    key, _ = make_key()
    make_entry(key, NOON, cost="25")
    roll_up()
    assert overview.spend(owner, NOON).allowed is None
    Budget.objects.create(amount=50, customer=key.customer)
    Budget.objects.create(amount=50, customer=Customer.objects.create(name="Other"))
    # These say nothing about the month of a customer.
    Budget.objects.create(amount=7, team=key.team)
    Budget.objects.create(amount=7, customer=key.customer, period=Period.DAY)
    found = overview.spend(owner, NOON)
    assert found.allowed == Decimal(100)
    assert found.part == 25


def test_errors_are_counted_by_who_has_to_look_into_them(owner):
    key, _ = make_key()
    for status in ("failed", "refused_by_provider", "client_disconnected", "interrupted", "completed"):
        make_entry(key, NOON, status=status)
    roll_up()
    found = overview.spend(owner, NOON)
    assert {series.title: series.total for series in found.errors.series} == {
        "the provider’s": 2,
        "the caller’s": 1,
        "ours": 1,
    }
    assert found.calls.series[0].values[-1] == 5


def refuse(reason: str, at: datetime, count: int = 1) -> None:
    Refusal.objects.create(
        **{"id": request_ids.new_id(), "refused_at": at, "http_status": 429, "error_type": "x", "reason": reason},
        **{"message": "m", "count": count, "minute": at.replace(second=0, microsecond=0) if count > 1 else None},
    )


def test_refusals_are_counted_by_the_minute_with_those_that_were_only_counted(owner):
    refuse("limit", NOON)
    refuse("budget", NOON - timedelta(minutes=1), count=40)
    refuse("overloaded", NOON - timedelta(minutes=2))
    refuse("provider_timeout", NOON - timedelta(minutes=2))
    refuse("limit", NOON - timedelta(hours=2))
    chart = overview.refusals(owner, NOON)
    totals = {series.title: series.total for series in chart.series}
    assert totals == {"the provider’s": 1, "the caller’s": 41, "ours": 1}
    assert [sum(values) for _, values in chart.rows][-3:] == [2, 40, 1]


def window(spent: str, amount: int = 100, **terms) -> Budget:
    """A monthly budget, three days into its window."""
    budget = Budget.objects.create(amount=amount, **terms)
    Budget.objects.filter(pk=budget.pk).update(created_at=NOON - timedelta(days=60))
    start = NOON - timedelta(days=3)
    Window.objects.create(budget=budget, start=start, until=start + timedelta(days=30), spent=Decimal(spent), held=0)
    return budget


def test_budgets_that_are_exhausted_or_will_be_this_week_are_shown_soonest_first(owner):
    key, _ = make_key()
    out = window("100", customer=key.customer)
    # A tenth is left after three days: it ends in eight hours.
    soon = window("90", team=key.team)
    # At this pace, it lasts for nine more days, which is next week.
    window("26", virtual_key=key)
    window("1", virtual_key=key, period=Period.YEAR)
    found = overview.dangers(owner, NOON)
    assert [each.budget.pk for each in found] == [out.pk, soon.pk]
    assert found[0].ends is None
    assert found[1].ends == NOON + timedelta(hours=8)
    assert found[1].percent == 90


def test_a_budget_whose_window_ends_before_it_is_used_up_is_in_no_danger(owner):
    key, _ = make_key()
    budget = window("90", customer=key.customer)
    Window.objects.filter(budget=budget).update(until=NOON + timedelta(hours=1))
    assert overview.dangers(owner, NOON) == []


def test_provider_keys_that_cool_down_or_are_refused_are_in_trouble(owner):
    for name in ("fine", "cooling", "refused", "switched-off"):
        ProviderKey.objects.create(name=name, provider="anthropic", active=name != "switched-off")
    now = timezone.now()
    for name, until, reason in (
        ("cooling", now + timedelta(minutes=5), CooldownReason.RATE_LIMITED),
        ("refused", now - timedelta(minutes=5), CooldownReason.REFUSED),
        ("fine", now - timedelta(minutes=5), CooldownReason.FAILING),
        ("switched-off", now + timedelta(minutes=5), CooldownReason.FAILING),
    ):
        row = ProviderKey.objects.get(name=name)
        Cooldown.objects.create(provider_key=row, reason=reason, since=now - timedelta(hours=1), until=until)
    found = {each.provider_key.name: each.why for each in overview.troubles(owner, now)}
    assert found == {"cooling": "all models: rate limited", "refused": "all models: its key or account is refused"}


def test_a_person_sees_only_the_parts_that_they_may_see():
    make_entry(make_key()[0])
    bob = User.objects.create(username="bob", is_staff=True)
    bob.user_permissions.set(Permission.objects.filter(codename="view_providerkey"))
    client = Client()
    client.force_login(bob)
    shown = front_page(client)
    assert "Provider keys in trouble" in shown
    for hidden in ("Spent today", "Refusals a minute", "Out of budget", "Web processes", "PostgreSQL"):
        assert hidden not in shown


def test_the_number_of_queries_does_not_grow_with_the_data(admin_client):
    key, _ = make_key()
    make_entry(key, timezone.now())
    rollups.freshen()
    front_page(admin_client)
    with CaptureQueriesContext(connection) as few:
        front_page(admin_client)
    for number in range(20):
        customer = Customer.objects.create(name=f"Customer {number}")
        team = Team.objects.create(customer=customer, name="Team")
        other = VirtualKey.objects.create(name=f"key {number}", customer=customer, team=team)
        make_entry(other, timezone.now(), status="failed")
        window("99", virtual_key=other)
        row = ProviderKey.objects.create(name=f"provider {number}", provider="anthropic")
        until = timezone.now() + timedelta(hours=1)
        Cooldown.objects.create(provider_key=row, reason="failing", since=timezone.now(), until=until)
        refuse("limit", timezone.now())
    roll_up()
    with CaptureQueriesContext(connection) as many:
        front_page(admin_client)
    assert len(many) <= len(few) + 1  # the cool-downs of provider keys, once there are provider keys
    assert not [query for query in many.captured_queries if "SUM" in query["sql"] and "ledgerentry" in query["sql"]]


def test_a_chart_is_drawn_in_proportion_and_has_a_table_for_screen_readers():
    chart = Chart("Calls", ["10:00", "11:00"], [Series("good", "calls", [2, 0]), Series("bad", "ours", [2, 1])])
    first, second, third = chart.parts
    assert first.height == second.height == (HEIGHT - 2) / 2
    assert second.y < first.y
    assert (third.kind, third.x > first.x) == ("ours", True)
    assert chart.rows == [("10:00", (2, 2)), ("11:00", (0, 1))]
    shown = render_to_string("admin/chart.html", {"chart": chart})
    assert '<svg viewBox="0 0 20 48" preserveAspectRatio="none" aria-hidden="true"' in shown
    assert "<caption>Calls</caption>" in shown


def test_a_chart_of_nothing_is_a_sentence():
    chart = Chart("Errors", ["10:00", "11:00"], [Series("bad", "ours", [0, 0])])
    shown = render_to_string("admin/chart.html", {"chart": chart})
    assert "None since 10:00." in shown
    assert "<svg" not in shown
