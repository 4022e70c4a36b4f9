"""What the tabs of the usage report show. Each asks a fixed number of questions."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from administration.charts import Chart, Series
from administration.usage_report import drawings, shown
from administration.usage_report.links import Links
from administration.usage_report.shown import Cell, Head, Table
from keys.errors import Unusable
from usage.reporting import budgets
from usage.reporting.asked import Amount, Asked
from usage.reporting.bounded import Bounded
from usage.reporting.categories import added
from usage.reporting.dimensions import ALL, all_names
from usage.reporting.lines import Compared, Reading
from usage.reporting.movers import Mover, total
from usage.reporting.tables import named
from usage.reporting.to_come import ToCome, to_come
from usage.reporting.unread_writes import unread_writes

MOVERS = 20


def section(asked: Asked, user: Any, amount: Amount) -> dict[str, Any]:
    """What the page shows for a question.

    Raises:
        Unusable: it can't be answered.
    """
    ask, links = Bounded(user), Links(asked, user)
    if asked.show == "movers":
        return movers(Reading(asked, ask, amount), links)
    if asked.show == "forecast":
        return _to_come(asked, user, ask, amount)
    found = table(Reading(asked, ask, amount), user, links)
    if asked.show == "money":
        found["unread"] = _unread(asked, user, ask, amount)
    return found


def table(reading: Reading, user: Any, links: Links) -> dict[str, Any]:
    """The table of lines with its chart."""
    asked, amount = reading.asked, reading.amount
    lines = named(asked, reading.lines())
    # By time; within a period the most expensive first, or what went wrong most often.
    lines.sort(key=lambda line: (line.since, *_rank(line, asked, amount)))
    question = asked.question()
    values = added([line.values for line in lines])
    before = added([*(line.before or {} for line in lines), *reading.beyond]) if asked.compare else None
    whole = Compared(question.since, question.until, (), values, before)
    name = shown.name_of(asked)
    if asked.show == "money":
        chart = drawings.of_categories(asked, lines, name, amount)
    elif asked.show == "errors":
        chart = drawings.of_errors(asked, lines, name)
    else:
        chart = drawings.of_groups(asked, lines, name, amount)
    return {
        "table": shown.table(asked, user, lines, whole, links) if lines else None,
        "chart": chart if lines else None,
        "total": Decimal(whole.value(amount)),
        "saved": Decimal(whole.value("saved")),
        "unpriced_reads": whole.value("unpriced_reads"),
    }


def _rank(line: Compared, asked: Asked, amount: Amount) -> tuple[Any, ...]:
    if asked.show == "errors":
        wrong = sum(line.value(name) for name in drawings.FAULTS)
        return (-wrong, -line.value("calls"))
    return (-line.value(amount), -line.was(amount), -line.value("calls"))


def _unread(asked: Asked, user: Any, ask: Bounded, amount: Amount) -> Any:
    try:
        return unread_writes(asked, user, ask, amount, ask.left)
    except Unusable:
        return None


def movers(reading: Reading, links: Links) -> dict[str, Any]:
    """The groups that have changed most, and why."""
    asked = reading.asked
    found = reading.movers(MOVERS)
    if not found:
        return {"table": None, "chart": None}
    groups = {each.group for each in found if each.count == 1 and each.group}
    names = all_names(asked.by, groups)

    def labels(mover: Mover) -> list[Cell]:
        if mover.count > 1 or not mover.group:
            return [Cell(f"{mover.count} others"), *(Cell("") for _ in asked.by[1:])]
        called = {name: names[name].get(mover.group[at]) for at, name in enumerate(asked.by) if name in names}
        return shown.group_labels(asked, mover.group, called, links)

    question, earlier = asked.question(), shown.earlier_range(asked)
    now = (question.since, question.until)
    was = earlier or now
    heads = [Head("Amount"), Head("Before"), Head("Change"), Head("Change", "%"), *map(Head, CAUSE_TITLES)]
    rows = [(labels(each), shown.mover_cells(each, links, now, was)) for each in found]
    whole = replace(total(found), group=(), count=1)
    titles = [ALL[name].title for name in asked.by]
    return {
        "table": Table(titles, heads, rows, shown.mover_cells(whole, links, now, was), len(rows)),
        "chart": drawings.of_changes(found, lambda each: " · ".join(cell.text for cell in labels(each) if cell.text)),
    }


CAUSE_TITLES = ("by volume", "by mix", "by cache", "by price")


def _to_come(asked: Asked, user: Any, ask: Bounded, amount: Amount) -> dict[str, Any]:
    """The forecast of this month, and when budgets run out."""
    month = to_come(asked, ask, amount)
    found, more = budgets.run_out(asked, user, ask.left)
    return {
        "forecast": month.forecast,
        "spent": month.so_far,
        "month": month.first,
        "chart": _days_to_come(month),
        "budgets": found,
        "more_budgets": more,
    }


def _days_to_come(month: ToCome) -> Chart | None:
    """What each day of the month cost, and is expected to cost."""
    each = month.by_day
    known = any(expected is not None for _, _, expected in each)
    if not known and not any(spent for _, spent, _ in each):
        return None
    series = [Series("spent", "spent", [spent for _, spent, _ in each])]
    if known:
        series.append(Series("expected", "expected", [expected or Decimal(0) for _, _, expected in each]))
    return Chart("Amount", [f"{day.day} {day:%b}" for day, _, _ in each], series, money=True)
