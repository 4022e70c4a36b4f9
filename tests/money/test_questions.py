"""Answers about usage are the sums of the ledger, in any zone and range, by any dimensions, and read few rows."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from administration.models import Grant
from administration.role_names import Role
from keys.errors import Unusable
from keys.models import VirtualKey
from tests.support.ledger_rows import Cast, empty_ledger, make_cast, make_entry
from usage import questions, rollups
from usage.covering import QUARTER
from usage.levels import LEVELS, SummedPeriod
from usage.measures import class_of
from usage.models import Adjustment, LedgerEntry, RollupState
from usage.questions import DIMENSIONS, Answer, NotWholeYet, Question, TooManyRows, ask, of_days
from usage.splits import CATEGORIES

# Not for a server that others use: their open transactions hold roll-ups back, as they should.
pytestmark = pytest.mark.usefixtures("apart")

# Before and after clocks change in Europe, America and at Lord Howe.
START, DAYS = datetime(2026, 2, 20, 3, tzinfo=UTC), 60
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"]
STATUSES = [
    *[("completed", 200, "")] * 5,
    ("failed", 529, "overloaded_error"),
    ("failed", None, "internal"),
    ("refused_by_provider", 400, "invalid_request_error"),
    ("refused_by_provider", 401, "authentication_error"),
    ("refused_by_provider", 429, "rate_limit_error"),
    ("refused_by_provider", None, "invalid_request_error"),
    ("client_disconnected", 200, ""),
    ("interrupted", None, ""),
]
WHOSE = {
    ("failed", 529): "provider_errors",
    ("failed", None): "our_errors",
    ("refused_by_provider", 400): "caller_errors",
    ("refused_by_provider", 401): "our_errors",
    ("refused_by_provider", 429): "provider_errors",
    ("refused_by_provider", None): "caller_errors",
    ("client_disconnected", 200): "caller_errors",
    ("interrupted", None): "our_errors",
}


def fill(cast: Cast, count: int = 300) -> None:
    """Calls of all kinds, with adjustments; rolled up now and then, so that some come late."""
    chance = random.Random(7)
    for number in range(count):
        status, http_status, error_type = chance.choice(STATUSES)
        cost = Decimal(chance.randrange(1, 10**9)).scaleb(-10)
        split = [cost - Decimal("0.00000001"), Decimal("0.00000001")] if chance.random() < 0.7 else None
        charge = cost * 2 if chance.random() < 0.4 else None
        timed = status == "completed" and chance.random() < 0.8
        call = make_entry(
            chance.choice([cast.alice, cast.bob, cast.charlie]),
            START + timedelta(seconds=chance.randrange(DAYS * 86_400)),
            chance.choice([None, cast.provider_key]),
            model=chance.choice(["claude-opus-5-5", "Claude-Opus-5-5", "claude-haiku-5-5"]),
            provider=chance.choice(["anthropic", "openai"]),
            status=status,
            http_status=http_status,
            error_type=error_type,
            service_tier=chance.choice(["standard", "batch"]),
            speed=chance.choice(["", "fast"]),
            stream=chance.random() < 0.5,
            labels=chance.choice([{}, {"cost_centre": "4711"}, {"project": "atlas", "cost_center": "12"}]),
            price_flag=chance.choice(["", "", "unpriced"]),
            estimated=status == "interrupted" or chance.random() < 0.1,
            output_tokens=chance.randrange(1000),
            cost=cost,
            cost_split=split,
            charge=charge,
            charge_split=None if charge is None or split is None else [2 * part for part in split],
            time_to_first_byte_ms=chance.randrange(40, 5_000) if timed else None,
            duration_ms=chance.randrange(5_000, 700_000),
        )
        if status == "interrupted":
            Adjustment.objects.create(entry_id=call, reason="late_settlement", cost=-cost / 2, output_tokens=-1)
        elif chance.random() < 0.1:
            Adjustment.objects.create(entry_id=call, reason="correction", cost=cost, charge=cost, cost_split=[cost])
        if number % 100 == 99:
            rollups.roll_up()
    rollups.roll_up()


def facts() -> list[dict[str, Any]]:
    """What the ledger and its adjustments say, each with its dimensions and measures."""
    found = []
    for row in LedgerEntry.objects.all():
        labels = row.labels
        base = {
            **{name: getattr(row, column, None) for name, column in DIMENSIONS.items()},
            "at": row.admitted_at,
            "model": row.model.lower(),
            "cost_centre": labels.get("cost_centre") or labels.get("cost_center") or "",
            "project": labels.get("project", ""),
        }
        timed = row.time_to_first_byte_ms is not None and row.status == "completed"
        unpriced = row.price_flag == "unpriced"
        whose = WHOSE.get((row.status, row.http_status))
        found.append(
            base
            | {
                "calls": 1,
                "estimated_calls": int(row.estimated),
                "unpriced_calls": int(unpriced),
                **({whose: 1} if whose else {}),
                "output_tokens": row.output_tokens,
                "cost": row.cost,
                "charge": row.owed,
                "estimated_cost": row.cost * row.estimated,
                "unpriced_charge": row.owed * unpriced,
                "cost_split": row.cost_split or [],
                "charge_split": row.owed_split,
                "timed_calls": int(timed),
                "duration_ms": row.duration_ms * timed,
                "durations": {class_of(row.duration_ms): 1} if timed else {},
                "first_bytes": {class_of(row.time_to_first_byte_ms or 0): 1} if timed else {},
            }
        )
        for one in Adjustment.objects.filter(entry_id=row.id):
            late = one.reason == "late_settlement"
            found.append(
                base
                | {
                    "output_tokens": one.output_tokens,
                    "cost": one.cost,
                    "charge": one.owed,
                    "estimated_cost": (-row.cost if late else one.cost) * row.estimated,
                    "unpriced_charge": one.owed * unpriced,
                    "cost_split": one.cost_split or [],
                    "charge_split": one.owed_split,
                }
            )
    return found


NUMBERS = (
    *("calls", "estimated_calls", "unpriced_calls", "our_errors", "caller_errors", "provider_errors"),
    *("output_tokens", "cost", "charge", "estimated_cost", "unpriced_charge", "timed_calls", "duration_ms"),
)
SPLITS, HISTOGRAMS = ("cost_split", "charge_split"), ("durations", "first_bytes")


def added(rows: Sequence[dict[str, Any]], question: Question) -> dict[Any, dict[str, Any]]:
    """The sums of these facts that a question asks for, by period and group."""
    groups = defaultdict(list)
    periods = question.periods()
    for row in rows:
        if any(row[name] not in values for name, values in question.where.items()):
            continue
        for since, until in periods:
            if since <= row["at"] < until:
                groups[since, tuple(row[name] for name in question.by)].append(row)
    return {
        key: {
            **{name: sum(row.get(name, 0) for row in of) for name in NUMBERS},
            **{
                name: [sum((row[name][n : n + 1] or [0])[0] for row in of) for n in range(len(CATEGORIES))]
                for name in SPLITS
            },
            **{
                name: {n: count for n in range(30) if (count := sum(row.get(name, {}).get(n, 0) for row in of))}
                for name in HISTOGRAMS
            },
        }
        for key, of in groups.items()
    }


def said(answer: Answer) -> dict[Any, dict[str, Any]]:
    """An answer in the same form."""
    return {
        (line.since, line.group): {
            **{name: line.values[name] for name in NUMBERS},
            **{name: [part or 0 for part in line.values[name] or [0] * len(CATEGORIES)] for name in SPLITS},
            **{name: {n: c for n, c in enumerate(line.values[name] or ()) if c} for name in HISTOGRAMS},
        }
        for line in answer.lines
    }


@pytest.fixture
def cast(apart: str) -> Cast:
    empty_ledger()
    return make_cast()


@pytest.fixture
def filled(cast: Cast) -> Cast:
    fill(cast)
    return cast


moments = some.integers(-96, 96 * (DAYS + 1)).map(lambda number: START.replace(hour=0) + number * QUARTER)


def check(filled: Cast, examples: int) -> None:
    """Random questions are answered as the ledger says."""
    rows = facts()
    values = {name: sorted({row[name] for row in rows}, key=str) for name in DIMENSIONS}

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(some.data())
    def ask_one(data: Any) -> None:
        since, until = sorted((data.draw(moments), data.draw(moments)))
        by = data.draw(some.lists(some.sampled_from(sorted(DIMENSIONS)), unique=True, max_size=3))
        filtered = data.draw(some.lists(some.sampled_from(sorted(DIMENSIONS)), unique=True, max_size=2))
        question = Question(
            since,
            until,
            ZoneInfo(data.draw(some.sampled_from(ZONES))),
            data.draw(some.sampled_from([None, "day", "week", "month"])),
            tuple(by),
            {name: data.draw(some.lists(some.sampled_from(values[name]), min_size=1)) for name in filtered},
        )
        assert said(ask(question)) == added(rows, question)

    ask_one()


def test_any_question_is_answered_as_the_ledger_says(filled):
    assert SummedPeriod.objects.filter(level="key_month").exists()
    check(filled, 120)
    whole = ask(Question(START, START + timedelta(days=DAYS)))
    assert (whole.level, whole.lines[0].values["calls"]) == ("model", LedgerEntry.objects.count())


def test_answers_are_the_same_whichever_days_and_months_are_there(filled):
    for period in random.Random(3).sample(list(SummedPeriod.objects.all()), 120):
        SummedPeriod.objects.filter(level=period.level, start=period.start).delete()
    check(filled, 40)


def test_the_parts_of_an_amount_are_the_amount(filled):
    for line in ask(Question(START, START + timedelta(days=DAYS), by=("key", "model"))).lines:
        for amount in ("cost", "charge"):
            assert sum(line.split(amount).values()) == line.values[amount]
        assert line.split()["rest"] > 0  # some rows aren't split


def test_a_person_sees_what_their_roles_reach(filled):
    everything = Question(START, START + timedelta(days=DAYS), by=("customer",))
    finance, admin, member, stranger = (User.objects.create_user(name) for name in ("fin", "adm", "mem", "stranger"))
    Grant.objects.create(user=finance, role=Role.FINANCE, customer=filled.charlie.customer)
    Grant.objects.create(user=admin, role=Role.TEAM_ADMIN, team=filled.alice.team)
    VirtualKey.objects.filter(pk=filled.bob.pk).update(owner="mem")
    Grant.objects.create(user=member, role=Role.MEMBER)
    rows = facts()
    expected = {
        finance: ("owner", {row["customer"]: 1 for row in rows if row["customer"] == filled.charlie.customer_id}),
        admin: ("owner", {filled.alice.customer_id: 1}),
    }
    for person, (level, groups) in expected.items():
        answer = ask(everything, person)
        assert (answer.level, {line.group[0] for line in answer.lines}) == (level, set(groups))
    assert ask(everything, stranger).lines == []
    own = ask(everything, member)
    calls = LedgerEntry.objects.filter(virtual_key=filled.bob).count()
    assert [line.values["calls"] for line in own.lines] == [calls]


def test_hours_of_a_zone_begin_at_its_own_full_hour(filled):
    rows, india = facts(), ZoneInfo("Asia/Kolkata")
    question = Question(
        *of_days(START.date() + timedelta(days=3), START.date() + timedelta(days=9), india), india, "hour"
    )
    assert said(ask(question)) == added(rows, question)


def test_a_pattern_of_models_is_read_in_any_case(filled):
    answer = ask(Question(START, START + timedelta(days=DAYS), by=("model",), models="CLAUDE-opus-*"))
    assert [line.group for line in answer.lines] == [("claude-opus-5-5",)]


def test_a_filter_without_values_leaves_nothing(filled):
    assert ask(Question(START, START + timedelta(days=DAYS), where={"team": []})).lines == []
    without_team = ask(Question(START, START + timedelta(days=DAYS), by=("key",), where={"team": [None]}))
    assert {line.group for line in without_team.lines} == {(filled.charlie.pk,)}


def test_an_answer_that_would_read_too_much_is_refused(filled):
    question = Question(START, START + timedelta(days=DAYS), by=("key",), every="day", most_rows=20)
    with pytest.raises(TooManyRows, match="more than 20 sums"):
        ask(question)


def test_while_roll_ups_of_an_earlier_version_are_summed_again_only_later_ranges_are_answered(filled):
    state = RollupState.objects.get()
    RollupState.objects.update(whole_since=START + timedelta(days=30))
    with pytest.raises(NotWholeYet):
        ask(Question(START + timedelta(days=29), START + timedelta(days=40)))
    assert ask(Question(START + timedelta(days=30), START + timedelta(days=40))).lines
    assert state.whole_since is None


@pytest.mark.parametrize(
    "changes",
    [
        {"by": ("colour",)},
        {"where": {"colour": ["red"]}},
        {"measures": ("happiness",)},
        {"until": START - QUARTER},
        {"until": START.replace(tzinfo=None)},
    ],
)
def test_what_cannot_be_asked_is_said(changes):
    values = {"since": START, "until": START + QUARTER} | changes
    with pytest.raises(Unusable):
        ask(Question(**values))


def test_every_level_adds_up_to_the_same(filled):
    assert {level.by for level in LEVELS} == {source.name for source in questions.SOURCES}
    sums = set()
    for by in ((), ("team",), ("key",), ("key", "model")):
        answer = ask(Question(START, START + timedelta(days=DAYS), by=by))
        sums.add(
            (sum(line.values["calls"] for line in answer.lines), sum(line.values["cost"] for line in answer.lines))
        )
    assert len(sums) == 1
