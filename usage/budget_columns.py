"""Columns of lists and pages about the current state of budgets and limits."""

from __future__ import annotations

import zoneinfo
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from keys import viewer
from usage import exhausted
from usage.budgets import Budget, Period
from usage.cells import OWNER, bar, part, shown, two_lines, what_is_left
from usage.limits import Limit, LimitKind
from usage.standing import with_limit_standing, with_standing


class Standing:
    """Columns about the current window. They need the annotations of `with_standing`."""

    COLUMNS = ("used_now", "left_now", "resets_at_shown")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Budget]:
        rows: QuerySet[Budget] = super().get_queryset(request)  # type: ignore[misc]
        return with_standing(rows.select_related(*OWNER, "provider_key"))

    @admin.display(description="spent and held")
    def used_now(self, row: Any) -> SafeString | str:
        if not hasattr(row, "allowed"):
            return "–"
        held = f", {shown(row.held, row.unit)} held" if row.held else ""
        return bar(
            row.spent,
            row.held,
            row.allowed,
            f"{shown(row.spent, row.unit)} spent{held}",
            exhausted=row.exhausted_since is not None and exhausted.is_used_up(row.left, row.allowed),
        )

    @admin.display(description="left")
    def left_now(self, row: Any) -> SafeString | str:
        if not hasattr(row, "left"):
            return "–"
        explained = part(row.left, row.allowed, row.unit)
        if row.exhausted_since:
            words = exhausted.in_words(viewer.moment(row.exhausted_since), row.left, row.allowed)
            explained = f"{explained}; {words}"
        return two_lines(what_is_left(row.left, row.unit), explained)

    @admin.display(description="resets at")
    def resets_at_shown(self, row: Any) -> SafeString | str:
        if row.period == Period.NONE:
            return "never"
        resets_at = getattr(row, "resets_at", None)
        if not resets_at:
            return "not in use yet"
        zone = row.payer().time_zone
        return two_lines(f"{resets_at.astimezone(zoneinfo.ZoneInfo(zone)):%Y-%m-%d %H:%M}", zone)


class LimitStanding:
    """A column about the current state of a limit. It needs the annotations of `with_limit_standing`."""

    USED = "used"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Limit]:
        rows: QuerySet[Limit] = super().get_queryset(request)  # type: ignore[misc]
        return with_limit_standing(rows.select_related(*OWNER, "provider_key"))

    @admin.display(description="now")
    def standing(self, row: Any) -> SafeString | str:
        if not hasattr(row, "remaining"):
            return "–"
        most = row.rate if row.kind == LimitKind.PARALLEL else row.bucket
        used = most - row.remaining
        words = f"{used:,} of {most:,} {'run' if row.kind == LimitKind.PARALLEL else self.USED}"
        return bar(used, Decimal(0), most, words)
