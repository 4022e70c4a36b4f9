from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from hypothesis import given
from hypothesis import strategies as st

from keys.csv_lines import BLANK, csv_line
from keys.models import Customer, Team, VirtualKey
from tests.support.ledger_rows import START, empty_ledger, make_cast, make_entry
from usage import reports, rollups

pytestmark = pytest.mark.django_db(transaction=True)

BOSS = User(username="boss", is_superuser=True)
NOVEMBER = {"since": "2026-11-01", "until": "2026-11-30"}


@pytest.fixture
def cast():
    empty_ledger()
    return make_cast()


@pytest.fixture
def finance(client):
    user = User.objects.create_user("finance", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_rollup"))
    client.force_login(user)
    return client


def lines(**query):
    form = reports.ReportForm(NOVEMBER | query, user=BOSS)
    assert form.is_valid(), form.errors
    return [(*line.labels, line.values[0]) for line in reports.make(form.cleaned_data, BOSS).lines]


def read_csv(client, **query):
    response = client.get("/admin/usage/report/", NOVEMBER | query | {"format": "csv"})
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(response.content.decode("utf-8-sig"))))


def test_case_makes_no_two_lines_of_a_model(cast):
    make_entry(cast.alice, model="claude-haiku-5-5")
    make_entry(cast.alice, model="Claude-Haiku-5-5")
    rollups.roll_up()
    assert lines(group=["model"]) == [("claude-haiku-5-5", 2)]
    assert lines(model="CLAUDE-haiku*", group=["model"]) == [("claude-haiku-5-5", 2)]


def test_it_sums_by_what_is_asked_for(cast):
    make_entry(cast.alice, cost=3)
    make_entry(cast.bob, START + timedelta(days=1), model="claude-haiku-5-5", cost=2)
    make_entry(cast.charlie, START + timedelta(days=1))
    rollups.roll_up()
    assert lines() == [("2026-11-02", 1), ("2026-11-03", 2)]
    assert lines(group=["team"]) == [("Ours / Research", 2), (None, 1)]
    assert lines(group=["customer"]) == [("Ours", 2), ("Theirs", 1)]
    assert lines(group=["key"]) == [("alice", 1), ("bob", 1), ("charlie", 1)]
    assert lines(group=["model", "day"]) == [
        ("2026-11-02", "claude-opus-5-5", 1),
        ("2026-11-03", "claude-haiku-5-5", 1),
        ("2026-11-03", "claude-opus-5-5", 1),
    ]


def test_it_shows_only_what_the_filters_leave(cast):
    make_entry(cast.alice)
    make_entry(cast.bob, model="claude-haiku-5-5")
    make_entry(cast.charlie, model="claude-opus-5-5+x")
    rollups.roll_up()
    assert lines(group=["key"], key=cast.bob.id) == [("bob", 1)]
    assert len(lines(group=["key"], team=cast.bob.team_id)) == 2
    assert lines(group=["key"], customer=cast.charlie.customer_id) == [("charlie", 1)]
    assert lines(group=["model"], model="claude-opus-*") == [("claude-opus-5-5", 1), ("claude-opus-5-5+x", 1)]
    assert lines(group=["model"], model="claude-opus-5-5+x") == [("claude-opus-5-5+x", 1)]


def test_a_day_is_a_day_in_utc_and_the_last_one_counts(cast):
    for hour in (-1, 0, 23, 24):
        make_entry(cast.alice, START.replace(hour=0) + timedelta(hours=hour))
    rollups.roll_up()
    assert lines(since="2026-11-02", until="2026-11-02") == [("2026-11-02", 2)]


def test_it_shows_this_month_by_default(cast):
    form = reports.ReportForm({}, user=BOSS)
    assert form.is_valid()
    assert form.cleaned_data["since"].day == 1
    assert form.cleaned_data["group"] == ["day"]


def test_the_form_shows_what_it_was_taken_for(cast, finance):
    page = finance.get("/admin/usage/report/", {"since": "2026-11-01", "until": ""}).content.decode()
    assert 'value="2026-11-01"' in page
    assert re.search(r'value="day"[^>]* checked', page)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"since": "yesterday"}, "Enter a valid date."),
        ({"since": "2026-11-02", "until": "2026-11-01"}, "The range ends before it starts"),
        ({"since": "1990-01-01", "until": "2026-11-01"}, "The range is longer than ten years"),
        ({"since": "9999-12-01", "until": "9999-12-31"}, "The range is longer than ten years"),
        ({"team": "x"}, "Select a valid choice."),
        ({"group": "x"}, "Select a valid choice."),
        ({"model": "a b"}, "is not a model name or pattern"),
        ({"model": "\0"}, "Null characters are not allowed."),
    ],
)
def test_bad_input_is_named_in_the_form(cast, finance, query, message):
    response = finance.get("/admin/usage/report/", query)
    assert response.status_code == 200
    assert message in response.content.decode()


def test_the_chart_writes_numbers_as_the_table_does(cast, finance):
    make_entry(cast.alice, cost="0.0005")
    page = finance.get("/admin/usage/report/", NOVEMBER, HTTP_ACCEPT_LANGUAGE="de").content.decode()
    assert "$0,0005" in page
    assert 'data-locale="de"' in page


def test_the_page_has_the_table_its_totals_and_the_chart(cast, finance):
    make_entry(cast.alice, cost="1.5")
    make_entry(cast.bob, START + timedelta(days=2), cost="0.25")
    page = finance.get("/admin/usage/report/", NOVEMBER | {"group": ["day", "key"]}).content.decode()
    assert "alice" in page
    assert "$1.75" in page
    [found] = re.findall(r'id="usage-chart-data"[^>]*>(.*?)</script>', page)
    data = json.loads(found)
    assert len(data["labels"]) == 30
    assert [series["label"] for series in data["series"]] == ["alice", "bob"]
    assert data["series"][0]["data"][1] == 1.5
    assert not re.search(r"<script(?![^>]*(src=|application/json))", page)


def test_the_csv_is_exact(cast, finance):
    make_entry(cast.alice, cost="0.000000000001")
    make_entry(cast.bob, cost="1234567.5")
    assert [row["Cost, USD"] for row in read_csv(finance, group="key")] == ["1234567.5", "0.000000000001"]


def test_a_name_is_no_formula_in_a_spreadsheet(cast, finance):
    cast.alice.name = "=HYPERLINK(1)"
    cast.alice.save()
    make_entry(cast.alice)
    assert read_csv(finance, group="key")[0]["Key"] == "'=HYPERLINK(1)"


@pytest.fixture
def namesakes(cast):
    """Teams and keys that have others' names; a customer and a team that look like another customer's."""
    theirs = Team.objects.create(customer=cast.charlie.customer, name="Research")
    nested = Team.objects.create(customer=Customer.objects.create(name="Ours / Research"), name="Labs")
    deep = Team.objects.create(customer=cast.alice.customer, name="Research / Labs")
    teams = (cast.alice.team, theirs, nested, deep)
    keys = [VirtualKey.objects.create(name=f"ci-{team.pk}", customer=team.customer, team=team) for team in teams]
    for cost, key in enumerate(keys, 1):
        make_entry(key, cost=cost)
    make_entry(cast.charlie, cost=100)
    rollups.roll_up()
    return keys


def test_teams_of_one_name_are_lines_of_their_own(namesakes, finance):
    nested, deep = namesakes[2:]
    expected = {
        "Ours / Research": "1",
        "Theirs / Research": "2",
        f"Ours / Research / Labs #{nested.team_id}": "3",
        f"Ours / Research / Labs #{deep.team_id}": "4",
        "": "100",
    }
    assert {row["Team"]: row["Cost, USD"] for row in read_csv(finance, group="team")} == expected
    page = finance.get("/admin/usage/report/", NOVEMBER | {"group": "team"}).content.decode()
    shown = re.findall(r"<tr>\s*<td>(.*?)</td>", page)
    assert set(shown) == set(expected) - {""} | {"–"}
    [found] = re.findall(r'id="usage-chart-data"[^>]*>(.*?)</script>', page)
    series = {each["label"]: sum(each["data"]) for each in json.loads(found)["series"]}
    assert series == {label or "–": float(cost) for label, cost in expected.items()}


def test_the_form_searches_for_owners_and_names_the_chosen_ones_in_full(namesakes, finance):
    key = namesakes[0]
    chosen = {"team": key.team_id, "key": key.pk}
    page = finance.get("/admin/usage/report/", NOVEMBER | chosen).content.decode()
    options = re.findall(r'<option value="\d+" selected>(.*?)</option>', page)
    assert options == ["Ours / Research", f"Ours/Research/ci-{key.team_id}"]
    assert "Theirs / Research" not in page
    assert "admin/js/autocomplete.js" in page


def test_keys_of_the_same_name_are_distinguished_by_their_owners():
    group = reports.GROUPS["key"]
    rows = [
        dict(zip(group.fields, values, strict=True))
        for values in (
            (1, "ci", "Ours", "Research"),
            (2, "ci", "Ours", "Sales"),
            (3, "ci", "Theirs", None),
            (4, "alice", "Ours", None),
            (5, "ci", "Ours", "Sales"),
            (None, None, None, None),
        )
    ]
    assert reports.labels(group, rows) == {
        1: "Ours / Research / ci",
        2: "Ours / Sales / ci #2",
        3: "Theirs / ci",
        4: "alice",
        5: "Ours / Sales / ci #5",
        None: None,
    }


@pytest.mark.parametrize("group", [["team"], ["customer"], ["provider_key"], ["day", "team", "key"]])
def test_a_csv_file_begins_with_a_mark_and_has_empty_cells_for_missing_values(cast, finance, group):
    make_entry(cast.charlie)
    response = finance.get("/admin/usage/report/", NOVEMBER | {"group": group, "format": "csv"})
    assert response.content.startswith(b"\xef\xbb\xbf")
    assert response.content.count(b"\xef\xbb\xbf") == 1
    (row,) = read_csv(finance, group=group)
    assert "–" not in row.values()
    assert row.get("Team", "") == row.get("Provider key", "") == ""
    assert row.get("Customer", "Theirs") == "Theirs"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "﹦", "−"])
def test_no_cell_of_text_begins_like_a_formula(start):
    for unseen in ("", " ", "\n", "\r\n \t", "\u3000", "\u00a0", "\u200b", "\ufeff\x00", "\u202e\ufe0f", *BLANK):
        (cell,) = next(csv.reader(io.StringIO(csv_line([unseen + start + "1+1"]), newline="")))
        assert cell == "'" + unseen + start + "1+1"


@given(st.text())
def test_a_text_gets_an_apostrophe_or_begins_with_what_is_no_sign(text):
    (cell,) = next(csv.reader(io.StringIO(csv_line([text, "x"]), newline="")))[:1]
    assert cell == text if not cell.startswith("'") else cell in (text, "'" + text)
    assert unicodedata.normalize("NFKC", cell).lstrip()[:1] not in ("=", "+", "-", "@") or not text


def test_numbers_are_numbers_even_below_nothing():
    assert csv_line([Decimal("-1.500"), Decimal("1E-12"), -3, None, "x"]) == "-1.5,0.000000000001,-3,,x\n"


def test_a_long_range_has_a_bar_a_month(cast):
    make_entry(cast.alice, cost=1)
    rollups.roll_up()
    form = reports.ReportForm({"since": "2026-01-15", "until": "2026-12-01"}, user=BOSS)
    assert form.is_valid()
    chart = reports.make(form.cleaned_data, BOSS).chart
    assert chart["labels"][0] == "2026-01"
    assert len(chart["labels"]) == 12
    assert chart["series"] == [{"label": "Cost", "data": [0.0] * 10 + [1.0, 0.0]}]


def test_the_chart_puts_small_series_together():
    costs = {f"model-{number}": {"2026-11-01": Decimal(number)} for number in range(1, 11)}
    bars = reports.stack(costs, ["2026-11-01"])
    assert bars[0] == {"label": "model-10", "data": [10.0]}
    assert bars[-1] == {"label": "3 others", "data": [6.0]}


def test_without_calls_it_says_what_to_do(cast, finance):
    assert "No calls yet. Issue a virtual key" in finance.get("/admin/usage/report/").content.decode()
    make_entry(cast.alice)
    rollups.roll_up()
    page = finance.get("/admin/usage/report/", {"since": "2020-01-01", "until": "2020-01-02"}).content.decode()
    assert "No calls in this range." in page


def test_it_needs_the_permission(cast, client):
    assert client.get("/admin/usage/report/").status_code == 302
    client.force_login(User.objects.create_user("charlie", is_staff=True))
    assert client.get("/admin/usage/report/").status_code == 403
    assert "Usage report" not in client.get("/admin/").content.decode()


def test_the_admin_links_to_it(cast, finance):
    assert 'href="/admin/usage/report/"' in finance.get("/admin/").content.decode()


def test_it_asks_a_bounded_number_of_queries(cast, finance, django_assert_max_num_queries):
    for day in range(20):
        make_entry(cast.alice, START + timedelta(days=day), model=f"model-{day}")
    rollups.roll_up()
    # The first page of a session records it.
    finance.get("/admin/usage/report/", NOVEMBER)
    with django_assert_max_num_queries(20):
        finance.get("/admin/usage/report/", NOVEMBER | {"group": ["day", "team", "key", "model"]})


def test_its_dates_are_days(cast):
    assert reports.midnight(date(2026, 11, 2)).isoformat() == "2026-11-02T00:00:00+00:00"
