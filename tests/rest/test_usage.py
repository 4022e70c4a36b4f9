"""Usage by REST: the sums of the report, with ids, filters and only what the token's person may see."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User

from administration.rest.resources import usage
from administration.role_names import Role
from administration.roles import giving
from tests.support.ledger_rows import START, empty_ledger, make_cast, make_entry
from tests.support.rest import Program, error
from usage import rollups
from usage.reporting.bounded import Bounded

pytestmark = pytest.mark.django_db(transaction=True)
NOVEMBER = "since=2026-11-01&until=2026-11-30"


@pytest.fixture
def cast():
    empty_ledger()
    cast = make_cast()
    type(cast.alice).objects.filter(pk=cast.alice.pk).update(labels={"project": "atlas"})
    make_entry(cast.alice, cost=3)
    make_entry(cast.bob, START + timedelta(days=1), model="claude-haiku-5-5", cost=2)
    make_entry(cast.charlie, START + timedelta(days=1), cost=1)
    rollups.roll_up()
    return cast


@pytest.fixture
def program(cast):
    return Program(User.objects.create_superuser("boss"), "usage:read")


def test_groups_have_ids_names_and_sums_the_most_expensive_first(program, cast):
    answer = program.get(f"usage?{NOVEMBER}&group_by=team,model")
    assert (answer["since"], answer["until"], answer["group_by"]) == ("2026-11-01", "2026-11-30", ["team", "model"])
    first, second, third = answer["data"]
    assert (first["team_id"], first["team"], first["model"]) == (
        cast.alice.team_id,
        "Ours / Research",
        "claude-opus-5-5",
    )
    assert (first["calls"], first["cost"], first["charge"]) == (1, "3", "3")
    assert second["model"] == "claude-haiku-5-5"
    assert (third["team_id"], third["team"]) == (None, None)
    assert answer["total"]["cost"] == "6"
    assert answer["total"]["tokens"]["input_tokens"] == sum(each["tokens"]["input_tokens"] for each in answer["data"])
    assert answer["left_out"] == 0


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("", ["alice", "bob", "charlie"]),
        ("&label=project%3Datlas", ["alice"]),
        ("&label=project%3Dnone", []),
        ("&model=claude-haiku-*", ["bob"]),
        ("&customer_id={customer}", ["charlie"]),
        ("&team_id={team}", ["alice", "bob"]),
        ("&virtual_key_id={key}", ["bob"]),
    ],
)
def test_it_is_filtered_by_every_dimension_and_by_labels_of_keys(program, cast, query, keys):
    ids = {"customer": cast.charlie.customer_id, "team": cast.alice.team_id, "key": cast.bob.pk}
    answer = program.get(f"usage?{NOVEMBER}&group_by=key{query.format(**ids)}")
    assert [each["virtual_key"] for each in answer["data"]] == keys
    assert answer["total"]["calls"] == len(keys)


def test_it_is_by_day_without_a_group(program):
    assert [each["day"] for each in program.get(f"usage?{NOVEMBER}")["data"]] == ["2026-11-02", "2026-11-03"]


def test_days_and_periods_are_those_of_the_zone(program, cast):
    make_entry(cast.alice, START.replace(hour=23), cost=4)
    rollups.roll_up()
    answer = program.get(f"usage?{NOVEMBER}&every=day&zone=Asia/Kathmandu&group_by=status")
    assert (answer["zone"], answer["every"], answer["group_by"]) == ("Asia/Kathmandu", "day", ["day", "status"])
    assert [(each["since"], each["until"], each["day"], each["cost"]) for each in answer["data"]] == [
        ("2026-11-01T18:15:00Z", "2026-11-02T18:15:00Z", "2026-11-02", "3"),
        ("2026-11-02T18:15:00Z", "2026-11-03T18:15:00Z", "2026-11-03", "7"),
    ]
    whole = program.get(f"usage?{NOVEMBER}&every=whole&group_by=stream,cost_centre,provider")
    [line] = whole["data"]
    assert (line["stream"], line["cost_centre"], line["provider"], line["cost"]) == (False, "", "anthropic", "10")
    assert "since" not in line


@pytest.mark.parametrize(
    ("query", "calls"),
    [
        ("status=failed", 0),
        ("status=completed&stream=no", 3),
        ("stream=yes", 0),
        ("provider=anthropic", 3),
        ("provider=openai", 0),
        ("without=team", 1),
        ("without=cost_centre,project", 3),
        ("cost_centre=4711", 0),
        ("service_tier=standard", 3),
        ("speed=fast", 0),
    ],
)
def test_it_is_filtered_by_what_calls_were(program, query, calls):
    assert program.get(f"usage?{NOVEMBER}&{query}")["total"]["calls"] == calls


def test_more_sums_than_a_page_may_read_are_refused_with_what_to_do(program, monkeypatch):
    monkeypatch.setattr(Bounded.__init__, "__defaults__", (2,))
    answer = error(program.ask("GET", f"usage?{NOVEMBER}&group_by=key"), 400, "invalid")
    assert "choose a shorter range" in answer["message"]


def test_lines_beyond_the_bound_are_counted_and_in_the_total(program, monkeypatch):
    monkeypatch.setattr(usage, "MOST", 1)
    answer = program.get(f"usage?{NOVEMBER}&group_by=key")
    assert ([each["virtual_key"] for each in answer["data"]], answer["left_out"]) == (["alice"], 2)
    assert answer["total"]["calls"] == 3


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ("since=yesterday", "since"),
        ("since=2026-11-02&until=2026-11-01", "since"),
        ("group_by=colour", "group_by"),
        ("customer_id=x", "customer_id"),
        ("team_id=999999", "team_id"),
        ("label=atlas", "label"),
        ("zone=Europe/Atlantis", "zone"),
        ("every=fortnight", "every"),
        ("group_by=team,key,model,status", "group_by"),
        ("without=luck", "without"),
        ("team_id={team}&without=team", "team_id"),
        ("colour=red", "colour"),
    ],
)
def test_a_wrong_parameter_is_named(program, cast, query, member):
    query = query.format(team=cast.alice.team_id)
    assert list(error(program.ask("GET", f"usage?{query}"), 400, "invalid")["fields"]) == [member]


def test_a_team_admin_sees_only_the_teams_own_usage(cast):
    carla = User.objects.create_user("carla", is_staff=True)
    giving.give(None, carla, Role.TEAM_ADMIN, team=cast.alice.team)
    mine = Program(carla)
    assert mine.get(f"usage?{NOVEMBER}&group_by=customer")["total"]["cost"] == "5"
    theirs = mine.ask("GET", f"usage?{NOVEMBER}&customer_id={cast.charlie.customer_id}")
    assert "customer_id" in error(theirs, 400, "invalid")["fields"]


def test_a_token_without_the_scope_is_refused(cast):
    calls = Program(User.objects.create_superuser("boss"), "calls:read")
    error(calls.ask("GET", "usage"), 403, "forbidden")
