"""How the usage report writes periods and numbers."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from keys import viewer
from usage import amounts

NOTHING = "–"


def period(since: datetime, every: str, zone: ZoneInfo, *, short: bool = False) -> str:
    """A period by its beginning. `short`: for the axis of a chart."""
    local = since.astimezone(zone)
    if every == "month":
        return f"{local:%b %Y}" if short else f"{local:%B %Y}"
    day = f"{local.day} {local:%b}" if short else f"{local.day} {local:%b %Y}"
    if every == "hour":
        return f"{day}, {local:%H:%M}"
    if every == "week" and not short:
        return f"week of {day}"
    return day if short else f"{local:%a} {day}"


def number(value: Any, kind: str) -> str:
    """A number of a column of this kind."""
    if value is None:
        return NOTHING
    if kind == "money":
        return amounts.usd(value)
    if kind == "percent":
        return percent(value)
    return viewer.number(value)


def percent(value: Decimal | None) -> str:
    """A change in percent, with its sign."""
    if value is None:
        return NOTHING
    rounded = value.quantize(Decimal(1) if abs(value) >= 100 else Decimal("0.1"))
    return f"{'+' if rounded > 0 else ''}{viewer.number(rounded)} %"
