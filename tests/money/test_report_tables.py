"""Tables of reports: what they are asked by a URL, and rows that are the sums of the ledger."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from tests.support.ledger_rows import START, empty_ledger, make_cast, make_entry
from usage import rollups
from usage.reporting import tables
from usage.reporting.asked import Asked, AskedForm

pytestmark = pytest.mark.django_db(transaction=True)

NOVEMBER = "since=2026-11-01&until=2026-11-30&zone=UTC"


@pytest.fixture
def boss():
    return User.objects.create_superuser("boss")


@pytest.fixture
def cast():
    empty_ledger()
    return make_cast()


def asked(query: str, user: User) -> Asked:
    form = AskedForm(query, user=user)
    assert form.is_valid(), form.errors
    return form.asked()


def table(query: str, user: User) -> list[dict[str, Any]]:
    of = asked(query, user)
    return [
        dict(zip([each.key for each in tables.columns(of, user)], row, strict=True)) for row in tables.rows(of, user)
    ]


def test_rows_have_the_period_in_the_zone_the_group_and_its_sums(cast, boss):
    make_entry(cast.alice, cost=3)
    make_entry(cast.bob, START + timedelta(days=1), model="claude-haiku-5-5", cost=2, charge=5)
    make_entry(cast.charlie, START + timedelta(days=1), cost=1)
    rollups.roll_up()
    rows = table(f"{NOVEMBER.replace('UTC', 'Europe/Berlin')}&every=day&by=team&by=model", boss)
    assert [(f"{row['since']:%d %H:%M %z}", row["team"], row["model"], row["cost"], row["charge"]) for row in rows] == [
        ("02 00:00 +0100", "Ours / Research", "claude-opus-5-5", 3, 3),
        ("03 00:00 +0100", "Ours / Research", "claude-haiku-5-5", 2, 5),
        ("03 00:00 +0100", None, "claude-opus-5-5", 1, 1),
    ]
    assert rows[0]["team_id"] == cast.alice.team_id
    assert sum(row["input_tokens"] for row in rows) == 300


def test_a_person_who_may_not_see_prices_sees_what_owners_pay(cast, boss):
    make_entry(cast.alice, cost=1, charge=3)
    rollups.roll_up()
    seer = User.objects.create_user("seer")
    seer.user_permissions.add(Permission.objects.get(codename="view_rollup"))
    for query in (NOVEMBER, f"{NOVEMBER}&show=money", f"{NOVEMBER}&show=money&amount=cost"):
        [row] = table(query, seer)
        assert row.get("cost", row.get("charge")) == 3
        assert 1 not in [value for value in row.values() if isinstance(value, Decimal)]
    [row] = table(f"{NOVEMBER}&show=money&amount=cost", boss)
    assert row["cost"] == 1
