"""How the viewer of a page reads times and numbers: in which time zone, and with which separators.

`administration/viewers.py` sets both for each request. Elsewhere, times are in UTC and numbers are English.
"""

from __future__ import annotations

import contextlib
import zoneinfo
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import datetime, tzinfo
from decimal import Decimal
from functools import cache

from django.utils import formats, numberformat, timezone

ENGLISH = "en"
UTC = "UTC"
_locale: ContextVar[str] = ContextVar("viewer_locale", default=ENGLISH)


@cache
def zones() -> tuple[str, ...]:
    """The names of all zones that a person may choose, sorted: UTC and those of places."""
    places = (name for name in zoneinfo.available_timezones() if "/" in name and not name.startswith("Etc/"))
    return (UTC, *sorted(places))


@contextlib.contextmanager
def viewing(zone: tzinfo, locale: str) -> Iterator[None]:
    """Within this block, times are shown in this zone, and numbers as in this locale, a code of Django's like `de`."""
    token = _locale.set(locale)
    try:
        with timezone.override(zone):
            yield
    finally:
        _locale.reset(token)


def locale() -> str:
    """The viewer's locale, a code of Django's like `de` or `pt-br`, which scripts understand, too."""
    return _locale.get()


def number(value: int | Decimal, places: int | None = None) -> str:
    """A number in the viewer's locale, with thousands grouped.

    Args:
        places: digits after the decimal point. The value is not rounded to them, only cut: round it first.
    """
    locale = _locale.get()
    return str(
        numberformat.format(
            value,
            formats.get_format("DECIMAL_SEPARATOR", locale, use_l10n=True),
            decimal_pos=places,
            grouping=formats.get_format("NUMBER_GROUPING", locale, use_l10n=True) or 3,
            thousand_sep=formats.get_format("THOUSAND_SEPARATOR", locale, use_l10n=True),
            force_grouping=True,
        )
    )


def moment(value: datetime) -> str:
    """A time in the viewer's zone, which it names: `29 Nov 2026 22:38 UTC`."""
    return formats.date_format(timezone.localtime(value), "DATETIME_FORMAT")
