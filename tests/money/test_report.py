from __future__ import annotations

import csv
import io
import re
import unicodedata
from datetime import date, timedelta
from decimal import Decimal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Permission, User
from hypothesis import given
from hypothesis import strategies as st

from administration.usage_report import drawings, shown
from administration.usage_report.links import Links
from keys.csv_lines import BLANK, csv_line
from keys.models import Customer, Team, VirtualKey
from keys.viewer import viewing
from tests.support.ledger_rows import START, empty_ledger, make_cast, make_entry
from usage import rollups
from usage.questions import midnight
from usage.reporting import tables
from usage.reporting.asked import SHOWN, AskedForm
from usage.reporting.bounded import Bounded
from usage.reporting.dimensions import ALL, distinct
from usage.reporting.lines import Compared, Reading

pytestmark = pytest.mark.django_db(transaction=True)

BOSS = User(username="boss", is_superuser=True)
NOVEMBER = {"since": "2026-11-01", "until": "2026-11-30"}
URL = "/admin/usage/report/"


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
    """The labels and the number of calls of each line of the whole range."""
    form = AskedForm(urlencode({"every": "whole", "zone": "UTC"} | NOVEMBER | query, doseq=True), user=BOSS)
    assert form.is_valid(), form.errors
    asked = form.asked()
    found = Reading(asked, tables.asking(BOSS), "charge").lines()
    return sorted(
        (*(cell.text for cell in shown.labels(asked, line, Links(asked, BOSS))), line.value("calls"))
        for line in tables.named(asked, found)
    )


def read_csv(client, **query):
    response = client.get(URL, NOVEMBER | query | {"format": "csv"})
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(response.getvalue().decode("utf-8-sig"))))


def page(client, **query):
    response = client.get(URL, NOVEMBER | {"zone": "UTC"} | query)
    assert response.status_code == 200
    return response.content.decode()


def test_case_makes_no_two_lines_of_a_model(cast):
    make_entry(cast.alice, model="claude-haiku-5-5")
    make_entry(cast.alice, model="Claude-Haiku-5-5")
    rollups.roll_up()
    assert lines(by=["model"]) == [("claude-haiku-5-5", 2)]
    assert lines(models="CLAUDE-haiku*", by=["model"]) == [("claude-haiku-5-5", 2)]


def test_it_sums_by_what_is_asked_for(cast):
    make_entry(cast.alice, cost=3)
    make_entry(cast.bob, START + timedelta(days=1), model="claude-haiku-5-5", cost=2)
    make_entry(cast.charlie, START + timedelta(days=1), stream=True)
    rollups.roll_up()
    assert lines(every="day") == [("Mon 2 Nov 2026", 1), ("Tue 3 Nov 2026", 2)]
    assert lines(every="week") == [("week of 2 Nov 2026", 3)]
    assert lines(every="month") == [("November 2026", 3)]
    assert lines(by=["team"]) == [("Ours / Research", 2), ("–", 1)]
    assert lines(by=["customer"]) == [("Ours", 2), ("Theirs", 1)]
    assert lines(by=["key"]) == [("alice", 1), ("bob", 1), ("charlie", 1)]
    assert lines(by=["stream", "status"]) == [("completed", "in one piece", 2), ("completed", "streamed", 1)]
    assert lines(by=["model"], every="day") == [
        ("Mon 2 Nov 2026", "claude-opus-5-5", 1),
        ("Tue 3 Nov 2026", "claude-haiku-5-5", 1),
        ("Tue 3 Nov 2026", "claude-opus-5-5", 1),
    ]


def test_parameters_of_earlier_versions_still_work(cast):
    make_entry(cast.alice)
    rollups.roll_up()
    form = AskedForm("since=2026-11-01&until=2026-11-30&group=day&group=model&model=claude-opus-*", user=BOSS)
    assert form.is_valid()
    asked = form.asked()
    assert (asked.every, asked.by, asked.models) == ("day", ("model",), "claude-opus-*")


def test_it_shows_only_what_the_filters_leave(cast):
    labels = {"cost_centre": "4711"}
    make_entry(cast.alice, labels=labels, provider_key=cast.provider_key)
    make_entry(cast.bob, model="claude-haiku-5-5", status="failed")
    make_entry(cast.charlie, model="claude-opus-5-5+x", stream=True)
    rollups.roll_up()
    every = [("alice", 1), ("bob", 1), ("charlie", 1)]
    for filters, left in (
        ({"key": cast.bob.id}, "bob"),
        ({"team": cast.bob.team_id}, "alice bob"),
        ({"customer": cast.charlie.customer_id}, "charlie"),
        ({"provider_key": cast.provider_key.pk}, "alice"),
        ({"without": ["provider_key"]}, "bob charlie"),
        ({"without": ["team"]}, "charlie"),
        ({"cost_centre": "4711"}, "alice"),
        ({"without": ["cost_centre", "team"]}, "charlie"),
        ({"status": "failed"}, "bob"),
        ({"stream": "yes"}, "charlie"),
        ({"stream": "no"}, "alice bob"),
        ({"provider": "anthropic"}, "alice bob charlie"),
        ({"provider": "openai"}, ""),
        ({"service_tier": "standard"}, "alice bob charlie"),
        ({"speed": "fast"}, ""),
        ({"models": "claude-opus-*"}, "alice charlie"),
        ({"models": "claude-opus-5-5+x"}, "charlie"),
    ):
        assert lines(by=["key"], **filters) == [each for each in every if each[0] in left.split()], filters


def test_days_are_those_of_the_zone_and_the_last_one_counts(cast):
    for hour in (-1, 0, 22, 23, 24):
        make_entry(cast.alice, START.replace(hour=0) + timedelta(hours=hour))
    rollups.roll_up()
    day = {"since": "2026-11-02", "until": "2026-11-02", "every": "day"}
    assert lines(**day) == [("Mon 2 Nov 2026", 3)]
    assert lines(**day, zone="Europe/Berlin") == [("Mon 2 Nov 2026", 3)]
    assert lines(**day, zone="Asia/Kolkata") == [("Mon 2 Nov 2026", 2)]


def test_the_zone_is_the_viewers_or_the_customers(cast):
    Customer.objects.filter(pk=cast.charlie.customer_id).update(time_zone="Asia/Kathmandu")
    with viewing(ZoneInfo("America/St_Johns"), "en"):
        mine = AskedForm("", user=BOSS)
        theirs = AskedForm(f"zone=customer&customer={cast.charlie.customer_id}", user=BOSS)
        whose = AskedForm("zone=customer", user=BOSS)
        assert [mine.is_valid(), theirs.is_valid(), whose.is_valid()] == [True, True, False]
    assert [mine.asked().zone.key, theirs.asked().zone.key] == ["America/St_Johns", "Asia/Kathmandu"]
    assert "Choose the customer whose time zone it is." in str(whose.errors)


def test_it_shows_this_month_by_day_by_default(cast):
    form = AskedForm("", user=BOSS)
    assert form.is_valid()
    asked = form.asked()
    assert (asked.preset, asked.every, asked.by, asked.days.first.day) == ("this_month", "day", (), 1)


def test_the_form_shows_what_it_was_taken_for(cast, finance):
    shown = finance.get(URL, {"since": "2026-11-01", "until": ""}).content.decode()
    assert 'value="2026-11-01"' in shown
    assert '<option value="day" selected>' in shown
    assert '<option value="UTC" selected>' in shown


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"since": "yesterday"}, "Enter a valid date."),
        ({"since": "2026-11-02", "until": "2026-11-01"}, "The range ends before it starts"),
        ({"since": "2001-01-01", "until": "2026-11-01"}, "The range is longer than ten years"),
        ({"since": "1990-01-01"}, "Ensure this value is greater than"),
        ({"since": "9999-12-01", "until": "9999-12-31"}, "Ensure this value is less than"),
        ({"since": "2020-01-01", "until": "2026-11-01", "every": "hour"}, "By hour, a range can be a year long"),
        ({"team": "x"}, "Select a valid choice."),
        ({"by": "x"}, "Select a valid choice."),
        ({"by": ["team", "key", "model", "status"]}, "Choose at most 3."),
        ({"models": "a b"}, "is not a model name or pattern"),
        ({"models": "\0"}, "Null characters are not allowed."),
        ({"zone": "Europe/Atlantis"}, "is not the IANA time zone of a place"),
    ],
)
def test_bad_input_is_named_in_the_form(cast, finance, query, message):
    response = finance.get(URL, query)
    assert response.status_code == 200
    assert message in response.content.decode()


def test_it_refuses_to_ask_for_a_team_and_for_calls_without_one(cast, finance):
    assert "Choose one, or calls without a team." in page(finance, team=cast.alice.team_id, without="team")


def test_numbers_are_written_as_the_viewer_reads_them(cast, finance):
    make_entry(cast.alice, cost="0.0005")
    assert "$0,0005" in finance.get(URL, NOVEMBER, HTTP_ACCEPT_LANGUAGE="de").content.decode()


def test_the_page_has_the_table_its_total_and_a_chart_with_the_same_as_a_table(cast, finance):
    make_entry(cast.alice, cost="1.5")
    make_entry(cast.bob, START + timedelta(days=2), cost="0.25")
    shown = page(finance, by="key", every="day")
    assert "$1.75" in shown
    chart = finance.get(URL, NOVEMBER | {"by": "key", "every": "day", "zone": "UTC"}).context["chart"]
    assert len(chart.labels) == 30
    assert [(each.title, each.values[1], each.values[3]) for each in chart.series] == [
        ("alice", Decimal("1.5"), 0),
        ("bob", 0, Decimal("0.25")),
    ]
    assert "The chart as a table" in shown
    assert not re.search(r"<script(?![^>]*(src=|application/json))", shown)


def test_the_csv_is_exact(cast, finance):
    make_entry(cast.alice, cost="0.000000000001")
    make_entry(cast.bob, cost="1234567.5")
    assert [row["Cost, USD"] for row in read_csv(finance, by="key")] == ["0.000000000001", "1234567.5"]


def test_a_name_is_no_formula_in_a_spreadsheet(cast, finance):
    cast.charlie.customer.name = "=HYPERLINK(1)"
    cast.charlie.customer.save()
    make_entry(cast.charlie)
    assert read_csv(finance, by="customer")[0]["Customer"] == "'=HYPERLINK(1)"


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
    assert {row["Team"]: row["Cost, USD"] for row in read_csv(finance, by="team")} == expected
    chart = finance.get(URL, NOVEMBER | {"by": "team"}).context["chart"]
    [series] = chart.series
    shown = dict(zip(chart.labels, series.values, strict=True))
    assert shown == {label or "–": Decimal(cost) for label, cost in expected.items()}


def test_the_form_searches_for_owners_and_names_the_chosen_ones_in_full(namesakes, finance):
    key = namesakes[0]
    shown = page(finance, team=key.team_id, key=key.pk)
    options = re.findall(r'<option value="\d+" selected>(.*?)</option>', shown)
    assert options == ["Ours / Research", f"Ours/Research/ci-{key.team_id}"]
    assert "Theirs / Research" not in shown
    assert "admin/js/autocomplete.js" in shown


def test_keys_of_the_same_name_are_distinguished_by_their_owners():
    fields = ("name", "customer__name", "team__name")
    rows = {
        pk: dict(zip(fields, values, strict=True))
        for pk, values in {
            1: ("ci", "Ours", "Research"),
            2: ("ci", "Ours", "Sales"),
            3: ("ci", "Theirs", None),
            4: ("alice", "Ours", None),
            5: ("ci", "Ours", "Sales"),
        }.items()
    }
    assert distinct(rows, ALL["key"]) == {
        1: "Ours / Research / ci",
        2: "Ours / Sales / ci #2",
        3: "Theirs / ci",
        4: "alice",
        5: "Ours / Sales / ci #5",
    }


@pytest.mark.parametrize("by", [["team"], ["customer"], ["provider_key"], ["team", "key"]])
def test_a_csv_file_begins_with_a_mark_and_has_empty_cells_for_missing_values(cast, finance, by):
    make_entry(cast.charlie)
    content = finance.get(URL, NOVEMBER | {"by": by, "format": "csv"}).getvalue()
    assert content.startswith(b"\xef\xbb\xbf")
    assert content.count(b"\xef\xbb\xbf") == 1
    (row,) = read_csv(finance, by=by)
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


def test_a_chart_puts_small_series_together():
    asked = AskedForm("since=2026-11-02&until=2026-11-02&zone=UTC&every=day&by=model", user=BOSS)
    assert asked.is_valid()
    day = (START.replace(hour=0), START.replace(hour=0) + timedelta(days=1))
    costs = [Compared(*day, (f"model-{number}",), {"charge": Decimal(number)}) for number in range(1, 11)]
    chart = drawings.of_groups(asked.asked(), costs, lambda line: line.group[0], "charge")
    assert (chart.series[0].title, list(chart.series[0].values)) == ("model-10", [Decimal(10)])
    assert (chart.series[-1].title, list(chart.series[-1].values)) == ("3 others", [Decimal(6)])


def test_without_calls_it_says_what_to_do(cast, finance):
    assert "No calls yet. Issue a virtual key" in finance.get(URL).content.decode()
    make_entry(cast.alice)
    rollups.roll_up()
    for show in ("usage", "money", "movers", "errors"):
        assert "No calls in this range." in page(finance, since="2020-01-01", until="2020-01-02", show=show)


def test_it_needs_the_permission(cast, client):
    assert client.get(URL).status_code == 302
    client.force_login(User.objects.create_user("charlie", is_staff=True))
    assert client.get(URL).status_code == 403
    assert "Usage report" not in client.get("/admin/").content.decode()


def test_the_admin_links_to_it(cast, finance):
    assert f'href="{URL}"' in finance.get("/admin/").content.decode()


@pytest.mark.parametrize("show", SHOWN)
def test_it_asks_a_bounded_number_of_queries(cast, finance, django_assert_max_num_queries, show):
    for day in range(20):
        make_entry(cast.alice, START + timedelta(days=day), model=f"model-{day}")
    rollups.roll_up()
    # The first page of a session records it.
    page(finance)
    with django_assert_max_num_queries(48):
        page(finance, by=["team", "key", "model"], every="day", compare="yes", show=show)


def test_all_questions_of_a_page_together_may_read_as_many_rows_as_a_page(cast, finance, monkeypatch):
    for number in range(5):
        for earlier in (0, 30):
            make_entry(cast.alice, START + timedelta(days=number - earlier))
    rollups.roll_up()
    form = AskedForm(urlencode(NOVEMBER | {"by": "key", "zone": "UTC"}), user=BOSS)
    assert form.is_valid()
    ask = Bounded(BOSS)
    Reading(form.asked(), ask, "charge").lines()
    rows = ask.most_rows - ask.left
    assert rows > 0
    monkeypatch.setattr(Bounded.__init__, "__defaults__", (rows,))
    refused = f"the page would add up more than {rows} sums: choose a shorter range"
    assert refused not in page(finance, by="key")
    assert refused in page(finance, by="key", compare="yes")


def test_its_dates_are_days(cast):
    assert midnight(date(2026, 11, 2), ZoneInfo("UTC")).isoformat() == "2026-11-02T00:00:00+00:00"
