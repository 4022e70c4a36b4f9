"""The tables of the forecast as files: the days of the month, and when budgets run out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.http import HttpRequest

from keys.exports import Export
from keys.table_files import TableFile
from usage import moments
from usage.budgets import Unit
from usage.reporting import budgets, tables
from usage.reporting.asked import Asked
from usage.reporting.bounded import Bounded
from usage.reporting.to_come import ToCome, to_come

# The parameter that chooses the table of budgets instead of that of days.
PARAMETER, BUDGETS = "table", "budgets"
DAYS = {"day": "Day", "spent": "Spent, USD", "expected": "Expected, USD"}
RUNS_OUT = {
    "budget": "Budget id",
    "owner": "Owner",
    "terms": "Terms",
    "unit": "Unit",
    "amount": "Amount",
    "used": "Used",
    "left": "Left",
    "runs_out": "Runs out on (UTC)",
    "resets_at": "Resets at",
}


def download(request: HttpRequest, asked: Asked, kind: str, about: Mapping[str, str]) -> Export:
    """The table that the URL asks for as a download; its rows are at most a month's days or a page's budgets.

    Args:
        kind: one of `keys.table_files.FORMATS`.
        about: what the file says about its rows.

    Raises:
        Unusable: the question can't be answered.
    """
    of_budgets = request.GET.get(PARAMETER) == BUDGETS
    ask = Bounded(request.user)
    if of_budgets:
        rows, more = _budgets(asked, request.user, ask.left)
        said = dict(about) | ({"left_out": f"budgets after the first {budgets.BUDGETS}"} if more else {})
        file = TableFile("budgets", [*RUNS_OUT.values()], ("Amount", "Used", "Left"), said, "Budgets", [*RUNS_OUT])
    else:
        month = to_come(asked, ask, tables.shown_amount(asked, request.user))
        rows = list(month.by_day)
        exact = (DAYS["spent"], DAYS["expected"])
        file = TableFile(
            f"forecast-{month.first:%Y-%m}", [*DAYS.values()], exact, dict(about) | _sums(month), "Forecast", [*DAYS]
        )
    query = asked.query_string() + (f"&{PARAMETER}={BUDGETS}" if of_budgets else "")
    return Export(request, "usage_budget" if of_budgets else "usage_rollup", file, [rows], kind, query=query)


def _sums(month: ToCome) -> dict[str, str]:
    found = {"range": f"{month.first:%B %Y}", "spent_so_far": f"{month.so_far:f}"}
    if (whole := month.forecast) is None:
        return found | {"expected_by_the_end": "not known before there are four weeks of calls"}
    band = {"four_times_of_five_from": f"{whole.low:f}", "four_times_of_five_to": f"{whole.high:f}"}
    return found | {"expected_by_the_end": f"{whole.expected:f}"} | band


def _budgets(asked: Asked, user: Any, most_rows: int) -> tuple[list[tuple[Any, ...]], bool]:
    found, more = budgets.run_out(asked, user, most_rows)
    rows = []
    for each in found:
        row = each.budget
        rows.append(
            (
                row.pk,
                row.owned_by(),
                f"{row.terms()}{row.particulars()}",
                Unit(row.unit).value,
                Decimal(row.allowed),
                Decimal(row.spent + row.held),
                Decimal(row.left),
                _when(each),
                moments.show(row.resets_at) if row.resets_at else None,
            )
        )
    return rows, more


def _when(each: budgets.RunsOut) -> str:
    if each.out:
        return "used up"
    if each.day is not None:
        return each.day.isoformat()
    if not each.known:
        return "not known"
    return "not before it resets" if each.budget.resets_at else "not within a year"
