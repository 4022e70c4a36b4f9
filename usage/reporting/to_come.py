"""What this month will cost by its end, day by day: the forecast's question to the roll-ups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from django.utils import timezone

from usage.questions import Answer, Question, of_days
from usage.reporting.asked import Amount, Asked
from usage.reporting.forecast import Forecast, days, forecast, history_of, weekdays
from usage.reporting.ranges import month_of

NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class ToCome:
    """A month that isn't over.

    Attributes:
        first, end: its first day, and that of the next month; today: in the report's zone.
        spent: USD by day, of the last eight weeks or from the first day on, whichever is earlier.
        forecast: None: there is too little history.
    """

    today: date
    first: date
    end: date
    spent: dict[date, Decimal]
    forecast: Forecast | None

    @property
    def so_far(self) -> Decimal:
        """USD of the month until now."""
        return sum((self.spent.get(day, NOTHING) for day in days(self.first, self.today + timedelta(days=1))), NOTHING)

    @property
    def by_day(self) -> list[tuple[date, Decimal, Decimal | None]]:
        """Each day of the month, what was spent on it, and what is still expected; None: that isn't known."""
        known = weekdays(self.spent, self.today)
        found: list[tuple[date, Decimal, Decimal | None]] = []
        for day in days(self.first, self.end):
            spent = self.spent.get(day, NOTHING)
            expected = NOTHING if known else None
            if known and day >= self.today:
                expected = max(Decimal(str(round(known[day.weekday()].mean, 6))) - spent, NOTHING)
            found.append((day, spent, expected))
        return found


def to_come(asked: Asked, ask: Callable[[Question], Answer], amount: Amount) -> ToCome:
    """This month, with the filters and the zone of a report. One question.

    Raises:
        Unusable: it can't be answered.
    """
    today = timezone.now().astimezone(asked.zone).date()
    first, end = month_of(today), month_of(today, 1)
    since, until = of_days(min(first, history_of(today)), today, asked.zone)
    question = asked.question(("cost", "charge"), since=since, until=until, every="day", by=())
    spent = {line.since.astimezone(asked.zone).date(): line.values[amount] or NOTHING for line in ask(question).lines}
    return ToCome(today, first, end, spent, forecast(spent, today, first, end))
