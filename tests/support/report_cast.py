"""People who save reports: Alice is finance for everything, Bob admin of the team Research, Charlie of another
customer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User

from administration.role_names import Role
from administration.roles import giving
from tests.support import ledger_rows
from tests.support.ledger_rows import empty_ledger, make_cast, make_entry
from usage import rollups
from usage.reporting import mailing, saved
from usage.saved_reports import ReportSchedule, SavedReport

NOVEMBER = "since=2026-11-01&until=2026-11-30&zone=UTC"
# A Monday, which is the first day of a month, at 6:30 in Berlin.
MORNING = datetime(2027, 2, 1, 5, 30, tzinfo=UTC)


@dataclass
class People:
    """Who saves reports and gets them, and whose calls they are about."""

    alice: User
    bob: User
    charlie: User
    keys: ledger_rows.Cast


def make_people() -> People:
    """The people, and calls of Research ($3) and of the other customer ($1)."""
    empty_ledger()
    keys = make_cast()
    found = {name: User.objects.create_user(name, f"{name}@example.com") for name in ("alice", "bob", "charlie")}
    giving.give(None, found["alice"], Role.FINANCE)
    giving.give(None, found["bob"], Role.TEAM_ADMIN, team=keys.alice.team)
    giving.give(None, found["charlie"], Role.FINANCE, customer=keys.charlie.customer)
    make_entry(keys.alice, cost="3.000000000001")
    make_entry(keys.charlie, cost=1)
    rollups.roll_up()
    return People(**found, keys=keys)


def save(owner: User, query: str = NOVEMBER, **values: Any) -> SavedReport:
    """A saved report."""
    return saved.save(owner, SavedReport(owner=owner, query=query, **({"name": "Spending"} | values)))


def mailed(report: SavedReport, *people: User, **values: Any) -> ReportSchedule:
    """A schedule of a report: each day at 7:00 in Berlin, if nothing else is said."""
    given = {"every": "day", "at": datetime(2026, 1, 1, 7).time(), "zone": "Europe/Berlin"} | values
    return mailing.set_schedule(report.owner, ReportSchedule(report=report, **given), people or (report.owner,))
