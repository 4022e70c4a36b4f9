"""The day on which each budget runs out, if its owner goes on as in the last weeks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import F, Q, QuerySet
from django.utils import timezone

from keys import patterns
from keys.visibility import visible
from usage.budgets import Budget, Unit
from usage.cells import OWNER
from usage.exhausted import is_used_up
from usage.owner_days import OwnerDay
from usage.reporting.asked import Asked
from usage.reporting.forecast import history_of, pace, used_up
from usage.standing import with_standing

# Budgets that are looked at: those of customers and teams first. Days that are looked ahead.
BUDGETS, AHEAD = 100, 366
OWNERS = {"customer": "customer_id", "team": "team_id", "key": "virtual_key_id"}


@dataclass(frozen=True, slots=True)
class RunsOut:
    """A budget, and when it runs out.

    Attributes:
        budget: with its standing (usage/standing.py).
        day: UTC; None: not before its window ends, or within a year, or it isn't known.
        known: there is enough to say when.
        out: it is used up now.
    """

    budget: Any
    day: date | None = None
    known: bool = True
    out: bool = False


def in_sight(asked: Asked, user: Any) -> QuerySet[Budget]:
    """The active budgets of the owners that a report is for; of all that a person sees without one."""
    rows = visible(user, Budget.objects.filter(active=True))
    wanted = Q()
    for name, column in OWNERS.items():
        if values := [value for value in asked.where.get(name, ()) if value is not None]:
            wanted |= Q(**{f"{column}__in": values})
    return rows.filter(wanted)


def run_out(asked: Asked, user: Any, most_rows: int) -> tuple[list[RunsOut], bool]:
    """Budgets, those that run out first at the beginning, and whether there are more than were looked at. Two queries.

    Args:
        most_rows: of daily sums that may be read.
    """
    rows: QuerySet[Any] = with_standing(in_sight(asked, user)).select_related(*OWNER, "provider_key")
    order = (F("virtual_key").asc(nulls_first=True), F("team").asc(nulls_first=True), "pk")
    budgets = list(rows.order_by(*order)[: BUDGETS + 1])
    today = timezone.now().astimezone(UTC).date()
    used = _used({row.owner for row in budgets[:BUDGETS]}, history_of(today), most_rows)
    found = [_runs_out(row, used, today) for row in budgets[:BUDGETS]]
    last = date.max
    found.sort(key=lambda each: (not each.out, each.day or last, not each.known, each.budget.pk))
    return found, len(budgets) > BUDGETS


Used = dict[int, list[tuple[date, str, Decimal, int]]]


def _used(owners: set[int], since: date, most_rows: int) -> Used | None:
    """What each owner used: the day, the model, USD and tokens; None: these are too many."""
    rows = OwnerDay.objects.filter(owner__in=owners, day__gte=since).order_by()
    columns = ("owner", "day", "model", "cost", "input_tokens", "output_tokens")
    listed = list(rows.values_list(*columns)[: most_rows + 1])
    if len(listed) > most_rows:
        return None
    found: Used = defaultdict(list)
    for owner, day, model, cost, read, written in listed:
        found[owner].append((day, model, cost, read + written))
    return found


def _runs_out(budget: Any, used: Used | None, today: date) -> RunsOut:
    refuses = budget.exhausted_since is not None and is_used_up(budget.left, budget.allowed)
    if refuses or budget.left <= 0:
        return RunsOut(budget, out=True)
    # Daily sums don't say which provider key answered.
    if used is None or budget.provider_key_id is not None:
        return RunsOut(budget, known=False)
    by_day: dict[date, Decimal] = defaultdict(Decimal)
    for day, model, cost, tokens in used.get(budget.owner, ()):
        if not budget.model_patterns or patterns.matches(budget.model_patterns, model):
            by_day[day] += cost if budget.unit == Unit.USD else tokens
    if not by_day:
        return RunsOut(budget)
    known = pace(by_day, today)
    if known is None:
        return RunsOut(budget, known=False)
    end = today + timedelta(days=AHEAD)
    if budget.resets_at is not None:
        # A window may end within a day: that day still counts.
        end = min(end, _last_day(budget.resets_at) + timedelta(days=1))
    return RunsOut(budget, used_up(budget.left, known, today, end, by_day[today]))


def _last_day(resets_at: datetime) -> date:
    return (resets_at.astimezone(UTC) - timedelta(microseconds=1)).date()
