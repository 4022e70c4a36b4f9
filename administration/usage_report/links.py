"""Links from the numbers of a usage report to the calls behind them, and to narrower reports."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone

from usage.reporting.asked import Asked
from usage.reporting.dimensions import WITHOUT

VIEW_CALLS = "usage.view_ledgerentry"
Period = tuple[datetime, datetime]


class Links:
    """The links of a report, for a person."""

    def __init__(self, asked: Asked, user: Any) -> None:
        self.asked = asked
        self.calls_url = reverse("admin:calls") if user.has_perm(VIEW_CALLS) else ""
        self.report_url = reverse("usage_report")

    def calls(self, period: Period, group: tuple[Any, ...] = (), **more: str) -> str:
        """The list of the calls of a group and a period; empty: the person may not see calls, or no filter fits.

        Args:
            more: further filters (administration/calls/filters.py).
        """
        wanted = {name: values[0] for name, values in self.asked.where.items() if values}
        wanted |= dict(zip(self.asked.by, group, strict=False))
        without = [name for name, value in wanted.items() if value in (None, "")]
        if not self.calls_url or not WITHOUT.keys() >= set(without):
            return ""
        if "stream" in wanted:
            wanted["stream"] = "yes" if wanted["stream"] else "no"
        found = {name: value for name, value in wanted.items() if name not in without}
        found.setdefault("model", self.asked.models)
        since, until = (_written(moment) for moment in period)
        query = {"since": since, "until": until} | {name: value for name, value in found.items() if value} | more
        return f"{self.calls_url}?{urlencode([*query.items(), *(('without', name) for name in without)])}"

    def within(self, group: tuple[Any, ...], at: int) -> str:
        """The report of one value of a dimension, grouped by the others."""
        name, value = self.asked.by[at], group[at]
        if name == "model":
            narrower = replace(self.asked, models=str(value))
        else:
            narrower = replace(self.asked, where={**self.asked.where, name: (value,)})
        if name not in WITHOUT and value in (None, ""):
            return ""
        others = tuple(each for each in self.asked.by if each != name)
        return f"{self.report_url}?{narrower.query_string(by=others)}"

    def report(self, **changes: Any) -> str:
        """The same report with some changes."""
        return f"{self.report_url}?{self.asked.query_string(**changes)}"


def _written(moment: datetime) -> str:
    """A moment as the form of calls reads it: in the viewer's zone; in UTC, if that zone's clock shows it twice."""
    zone = timezone.get_current_timezone()
    local = moment.astimezone(zone)
    if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        return moment.isoformat()
    return f"{local:%Y-%m-%dT%H:%M}"
