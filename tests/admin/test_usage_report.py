"""What the tabs of the usage report say: numbers that link to their calls, money by category, movers, a forecast."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from administration.role_names import Role
from administration.roles import giving
from administration.usage_report import sections
from tests.support.ledger_rows import START, empty_ledger, make_cast, make_entry
from usage import rollups
from usage.budgets import Budget, Period
from usage.models import LedgerEntry
from usage.owner_days import OwnerDay
from usage.reporting import budgets
from usage.reporting.asked import AskedForm
from usage.reporting.bounded import Bounded
from usage.reporting.forecast import forecast, used_up, weekdays

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/admin/usage/report/"
NOVEMBER = {"since": "2026-11-01", "until": "2026-11-30", "zone": "UTC"}


@pytest.fixture
def cast():
    empty_ledger()
    return make_cast()


@pytest.fixture
def boss(client):
    client.force_login(User.objects.create_superuser("boss"))
    return client


def ask(client, **query):
    answer = client.get(URL, NOVEMBER | query)
    assert answer.status_code == 200
    return answer


def cells(answer, row=0):
    """The numbers of a row by the titles of their columns."""
    table = answer.context["table"]
    return dict(zip([head.title for head in table.heads], table.rows[row][1], strict=True))


def calls_behind(client, url):
    """The ids of the calls that a link lists."""
    answer = client.get(url)
    assert answer.status_code == 200
    assert answer.context["form"].is_valid(), answer.context["form"].errors
    return {row.pk for row in answer.context["part"].rows}


def test_every_number_links_to_the_calls_behind_it(cast, boss):
    labels = {"project": "atlas"}
    ours = make_entry(cast.alice, provider_key=cast.provider_key, labels=labels)
    failed = make_entry(
        cast.alice, provider_key=cast.provider_key, labels=labels, status="failed", error_type="internal"
    )
    others = [
        make_entry(cast.alice, START - timedelta(days=40), provider_key=cast.provider_key, labels=labels),
        make_entry(cast.alice),
        make_entry(cast.bob, labels=labels),
        make_entry(cast.charlie, model="claude-haiku-5-5", stream=True, labels={"cost_center": "12"}),
    ]
    rollups.roll_up()
    answer = ask(boss, by=["project", "provider_key", "key"], every="day", without="speed")
    [line] = [
        cells(answer, row)
        for row, (heads, _) in enumerate(answer.context["table"].rows)
        if heads[1].text == "alice" and heads[2].text == "atlas"
    ]
    for title in ("Calls", "Cost", "Input", "Output"):
        assert calls_behind(boss, line[title].url) == {ours, failed}
    assert line["Output"].again
    answer = ask(boss, by=["key", "model", "stream"], show="errors", project="atlas")
    rows = {row[0][0].text: cells(answer, at) for at, row in enumerate(answer.context["table"].rows)}
    assert calls_behind(boss, rows["alice"]["Our errors"].url) == {failed}
    answer = ask(boss, by=["team", "cost_centre", "service_tier"])
    rows = {row[0][0].text: cells(answer, at) for at, row in enumerate(answer.context["table"].rows)}
    assert calls_behind(boss, rows["–"]["Calls"].url) == {others[3]}
    assert calls_behind(boss, rows["Ours / Research"]["Calls"].url) == {ours, failed, others[1], others[2]}
    total = answer.context["table"].total[0]
    assert calls_behind(boss, total.url) == {ours, failed, *others[1:]}


def test_a_link_means_the_same_moment_where_clocks_are_changed(cast, boss):
    for hour in range(5):
        make_entry(cast.alice, datetime(2026, 10, 24, 22, 30, tzinfo=UTC) + timedelta(hours=hour))
    rollups.roll_up()
    boss.cookies[settings.TIME_ZONE_COOKIE_NAME] = "Europe/Berlin"
    day = {"since": "2026-10-25", "until": "2026-10-25", "zone": "Europe/Berlin", "every": "hour"}
    answer = ask(boss, **day)
    links = [cells(answer, row)["Calls"].url for row in range(5)]
    assert len(set(links)) == 5
    found = [calls_behind(boss, link) for link in links]
    assert [len(each) for each in found] == [1] * 5
    assert len(set().union(*found)) == 5


def test_a_person_who_may_not_see_calls_has_numbers_without_links(cast, client):
    make_entry(cast.alice)
    rollups.roll_up()
    reader = User.objects.create_user("reader", is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_rollup"))
    client.force_login(reader)
    assert cells(ask(client))["Calls"].url == ""


def test_a_name_leads_to_the_report_of_that_group(cast, boss):
    make_entry(cast.alice)
    make_entry(cast.charlie)
    rollups.roll_up()
    answer = ask(boss, by=["team", "model"])
    links = {heads[0].text: heads[0].url for heads, _ in answer.context["table"].rows}
    within = boss.get(links["Ours / Research"])
    assert within.context["asked"].where == {"team": (cast.alice.team_id,)}
    assert within.context["asked"].by == ("model",)
    assert boss.get(links["–"]).context["asked"].where == {"team": (None,)}


def test_the_question_in_the_url_is_the_same_when_it_is_read_again(cast, boss):
    query = "range=last_month&zone=Asia/Kathmandu&every=week&by=team&by=stream&without=project&status=failed&stream=no"
    query += f"&customer={cast.alice.customer_id}&models=claude-*&compare=yes&amount=cost&show=errors"
    user = User.objects.get()
    form = AskedForm(query, user=user)
    assert form.is_valid(), form.errors
    asked = form.asked()
    again = AskedForm(asked.query_string(), user=user)
    assert again.is_valid(), again.errors
    assert again.asked() == asked
    said = dict(asked.heading())
    assert (said["Customer"], said["Project"], said["Status"]) == ("Ours", "without a project", "failed")
    assert (said["Time zone"], said["By"], said["Grouped by"]) == ("Asia/Kathmandu", "week", "Team, Stream")


def test_lines_are_beside_the_range_before(cast, boss):
    make_entry(cast.alice, cost=3)
    make_entry(cast.alice, START - timedelta(days=30), cost=2)
    make_entry(cast.charlie, START - timedelta(days=2), cost=7)
    rollups.roll_up()
    answer = ask(boss, by="key", compare="yes")
    alice, charlie = (cells(answer, row) for row in range(2))
    texts = [[each[name].text for name in ("Cost", "Amount before")] for each in (alice, charlie)]
    assert texts == [["$3.00", "$2.00"], ["$0.00", "$7.00"]]
    assert [cell.text for cell in answer.context["table"].rows[0][1][1:5]] == ["$3.00", "$2.00", "$1.00", "+50.0 %"]
    query = parse_qs(urlsplit(alice["Amount before"].url).query)
    assert (query["since"], query["until"]) == (["2026-10-01T00:00"], ["2026-11-01T00:00"])
    # October has a day more than November: the last day of a report by day.
    total = ask(boss, every="day", compare="yes").context["table"].total
    assert "$9.00" in [cell.text for cell in total]


def split(**parts):
    names = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_search", "flat")
    return [Decimal(parts.get(name, 0)) for name in names]


def priced(key, at=START, **more):
    parts = split(
        **{name: more.pop(name) for name in ("input", "output", "cache_read", "cache_write_5m") if name in more}
    )
    return make_entry(key, at, cost=sum(parts), cost_split=parts, **more)


def test_money_is_shown_by_category_with_what_caching_saved(cast, boss):
    priced(cast.alice, input_tokens=1000, input="3", output="1", cache_read="0.3", cache_read_input_tokens=1000)
    # Without input, the model's price in the range.
    priced(cast.bob, input_tokens=0, input="0", cache_read="0.6", cache_read_input_tokens=2000)
    # Without any price of input, nothing is said to be saved.
    priced(cast.charlie, model="claude-haiku-5-5", input_tokens=0, cache_read="1", cache_read_input_tokens=10)
    rollups.roll_up()
    answer = ask(boss, by="key", show="money")
    rows = {row[0][0].text: cells(answer, at) for at, row in enumerate(answer.context["table"].rows)}
    assert {name: row["Saved by caching"].text for name, row in rows.items()} == {
        "alice": "$2.70",
        "bob": "$5.40",
        "charlie": "$0.00",
    }
    assert [rows["alice"][name].text for name in ("Amount", "Input", "Output", "Cache read")] == [
        "$4.30",
        "$3.00",
        "$1.00",
        "$0.30",
    ]
    assert "In no category" not in rows["alice"]
    assert (answer.context["saved"], answer.context["unpriced_reads"]) == (Decimal("8.1"), 10)


def test_writes_that_no_call_of_the_conversation_read_in_time_are_an_estimate(cast, boss):
    def call(minute, session="s1", key=cast.alice, **more):
        named = {"claude_code_session": session} if session else {}
        return priced(key, START + timedelta(minutes=minute), client_labels=named, **more)

    call(0, cache_write_5m="1")
    call(4, cache_read="0.1", cache_read_input_tokens=5)  # reads it in time
    call(20, cache_write_5m="2")
    call(30, cache_read="0.1", cache_read_input_tokens=5)  # too late
    call(40, cache_write_5m="4")
    call(41, "s2", cache_read="0.1", cache_read_input_tokens=5)  # of another conversation
    call(50, "", cache_write_5m="8")  # of none that is known
    call(24 * 60 * 40, cache_write_5m="16")  # after the range
    call(60, "s3", cast.charlie, cache_write_5m="32", model="claude-haiku-5-5")
    rollups.roll_up()
    found = ask(boss, show="money").context["unread"]
    assert (found.written, found.known, found.unread, found.calls) == (47, 39, 38, 8)
    found = ask(boss, show="money", team=cast.alice.team_id).context["unread"]
    assert (found.known, found.unread) == (7, 6)
    found = ask(boss, show="money", models="claude-haiku-*", every="whole", by="key").context["unread"]
    assert (found.known, found.unread) == (32, 32)
    assert "an estimate" in ask(boss, show="money").content.decode()


def test_a_range_with_too_many_calls_has_no_estimate_and_says_so(cast, boss, monkeypatch):
    for _ in range(4):
        priced(cast.alice, input="1")
    rollups.roll_up()
    monkeypatch.setattr(sections, "Bounded", lambda user: Bounded(user, 6))
    page = ask(boss, show="money").content.decode()
    assert "$4.00" in page
    assert "Choose a shorter range, or one customer, team or key." in page


def test_movers_have_causes_that_add_up_and_links_to_both_ranges(cast, boss):
    then, now = START - timedelta(days=30), START
    was = priced(cast.alice, then, input_tokens=1000, output_tokens=0, input="1")
    more = priced(cast.alice, now, input_tokens=2000, output_tokens=0, input="3")
    priced(cast.charlie, now, input_tokens=1000, output_tokens=0, input="0.5")
    rollups.roll_up()
    answer = ask(boss, by="key", show="movers")
    alice, charlie = (cells(answer, row) for row in range(2))
    assert [alice[name].text for name in ("Amount", "Before", "by volume", "by mix", "by cache", "by price")] == [
        *("$3.00", "$1.00", "+$1.00", "$0.00", "$0.00", "+$1.00")
    ]
    assert calls_behind(boss, alice["Amount"].url) == {more}
    assert calls_behind(boss, alice["Before"].url) == {was}
    assert charlie["by volume"].text == "+$0.50"
    assert answer.context["table"].total[0].text == "$3.50"
    assert ask(boss, show="movers").context["asked"].by == ("customer", "team")


TODAY = date(2026, 11, 30)  # a Monday


def test_a_forecast_is_the_mean_of_weekdays_and_its_band_their_spread():
    today = date(2026, 11, 16)
    spent = {today - timedelta(days=number): Decimal(7) for number in range(1, 57)}
    found = forecast(spent, today, date(2026, 11, 1), date(2026, 12, 1))
    assert found is not None
    assert [found.spent, found.expected] == [15 * 7, 30 * 7]
    assert found.low == found.high == found.expected
    # Every other Monday costs nothing.
    spent |= {day: Decimal(0) for day in spent if day.weekday() == 0 and day.isocalendar().week % 2 == 0}
    found = forecast(spent | {today: Decimal(100)}, today, date(2026, 11, 1), date(2026, 12, 1))
    assert found is not None
    assert found.low < found.expected < found.high
    # Today has cost more than a Monday does, so nothing more is expected of it.
    assert [found.spent, found.expected] == [14 * 7 + 100, 14 * 7 + 100 + 12 * 7 + 2 * Decimal("3.5")]


def test_without_four_weeks_of_days_there_is_no_forecast():
    spent = {TODAY - timedelta(days=number): Decimal(7) for number in range(28)}
    assert weekdays(spent, TODAY) is None
    assert weekdays(spent | {TODAY - timedelta(days=28): Decimal(1)}, TODAY) is not None
    assert weekdays({}, TODAY) is None


def test_an_amount_is_used_up_on_the_day_that_weekdays_say():
    known = weekdays({TODAY - timedelta(days=number): Decimal(10) for number in range(1, 57)}, TODAY)
    assert known is not None
    end = TODAY + timedelta(days=30)
    assert used_up(Decimal(25), known, TODAY, end) == date(2026, 12, 2)
    assert used_up(Decimal(25), known, TODAY, end, used_today=Decimal(4)) == date(2026, 12, 2)
    assert used_up(Decimal(20), known, TODAY, end, used_today=Decimal(4)) == date(2026, 12, 2)
    assert used_up(Decimal(16), known, TODAY, end, used_today=Decimal(4)) == date(2026, 12, 1)
    assert used_up(Decimal(1000), known, TODAY, end) is None


def prepaid(amount, **terms):
    budget = Budget.objects.create(period=Period.NONE, **terms)
    budget.top_up(Decimal(amount), reason="paid", author="tests")
    return budget


def test_the_forecast_shows_the_month_and_when_each_budget_runs_out(cast, boss):
    now = timezone.now()
    for number in range(1, 50):
        make_entry(cast.alice, now - timedelta(days=number), cost=10)
    rollups.roll_up()
    ends, lasts = prepaid(25, virtual_key=cast.alice), prepaid(5, customer=cast.charlie.customer)
    answer = ask(boss, show="forecast")
    assert answer.context["forecast"].expected > 0
    today = now.astimezone(UTC).date()
    days = {each.budget.pk: each.day for each in answer.context["budgets"]}
    assert days == {ends.pk: today + timedelta(days=2), lasts.pk: None}
    assert "not within a year" in answer.content.decode()
    answer = ask(boss, show="forecast", customer=cast.charlie.customer_id)
    assert [each.budget.pk for each in answer.context["budgets"]] == [lasts.pk]
    assert answer.context["forecast"] is None
    assert "There is no forecast before there are four weeks of calls." in answer.content.decode()


def test_a_budget_of_some_models_counts_only_them(cast):
    today = timezone.now().astimezone(UTC).date()
    counts = {"calls": 1, "failed_calls": 0, "input_tokens": 60, "output_tokens": 40}
    for model, cost in (("claude-opus-5-5", 100), ("claude-haiku-5-5", 1)):
        for number in range(1, 40):
            day = today - timedelta(days=number)
            OwnerDay.objects.create(owner=cast.alice.pk * 4 + 2, day=day, model=model, cost=cost, **counts)
    for unit, amount in (("usd", 5), ("tokens", 500)):
        prepaid(amount, virtual_key=cast.alice, unit=unit, model_patterns=["*haiku*"])
    boss = User.objects.create_superuser("boss")
    form = AskedForm("", user=boss)
    assert form.is_valid()
    found, more = budgets.run_out(form.asked(), boss, 1000)
    assert [each.day for each in found] == [today + timedelta(days=4)] * 2
    assert not more
    found, _ = budgets.run_out(form.asked(), boss, 10)
    assert [each.known for each in found] == [False, False]


def test_a_team_admin_sees_the_own_teams_part_in_every_tab(cast, client):
    for key, cost in ((cast.alice, 3), (cast.charlie, 5)):
        priced(key, input=str(cost))
    rollups.roll_up()
    carla = User.objects.create_user("carla", is_staff=True)
    giving.give(None, carla, Role.TEAM_ADMIN, team=cast.alice.team)
    client.force_login(carla)
    for show in ("usage", "money", "movers", "errors"):
        answer = ask(client, by="key", show=show)
        assert [heads[0].text for heads, _ in answer.context["table"].rows] == ["alice"], show
    refused = client.get(URL, NOVEMBER | {"customer": cast.charlie.customer_id})
    assert "Select a valid choice." in refused.content.decode()
    assert "Theirs" not in unescape(refused.content.decode())


def test_the_list_of_calls_is_filtered_by_whose_fault_and_by_what_calls_are_without(cast, boss):
    fine = make_entry(cast.alice, provider_key=cast.provider_key, speed="fast")
    gone = make_entry(cast.bob, status="client_disconnected", labels={"cost_center": "12"})
    for query, found in (
        ("whose=callers", {gone}),
        ("whose=theirs", set()),
        ("without=provider_key", {gone}),
        ("without=cost_centre&without=project", {fine}),
        ("cost_centre=12", {gone}),
        ("speed=fast&provider=anthropic", {fine}),
    ):
        assert calls_behind(boss, f"/admin/calls/?{query}") == found, query
    assert LedgerEntry.objects.count() == 2


def test_columns_without_room_are_left_to_exports(cast, boss):
    counts = {
        f"{name}_tokens": 1
        for name in ("cache_read_input", "cache_creation_5m_input", "cache_creation_1h_input", "thinking")
    }
    make_entry(cast.alice, **counts)
    rollups.roll_up()
    table = ask(boss).context["table"]
    assert ("Thinking (in output)" in [head.title for head in table.heads], table.left_out) == (True, 0)
    answer = ask(boss, by=["key", "model", "status"], every="day", compare="yes")
    table = answer.context["table"]
    assert [head.title for head in table.heads] == [
        *("Calls", "Cost", "Amount before", "Change", "Change", "Input", "Output"),
    ]
    assert table.left_out == 4
    assert "further columns are in exported files" in answer.content.decode()
