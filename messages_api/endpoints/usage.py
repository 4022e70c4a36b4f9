"""GET /v1/usage: what the caller's own key has used, by day and model."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from django.http import HttpResponse, QueryDict
from rest_framework.request import Request

from messages_api.endpoints.view import ApiView
from messages_api.server import errors
from usage import own_usage
from usage.own_usage import DEFAULT_SPAN, MOST_DAYS, DayUsage

PARAMETERS = ("starting_at", "ending_at")
# A day, or its first moment in UTC.
DAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:T00:00(?::00(?:\.0{1,9})?)?(?:Z|[+-]00:00))?", re.IGNORECASE)
# Unknown parameters that an error names, and characters of each.
NAMED, NAME_LENGTH = 5, 40


class UsageView(ApiView):
    """Show what was used in a range of days."""

    endpoint = "usage"

    async def get(self, request: Request) -> HttpResponse:
        if self.presented.provider_secret:
            # All callers with a provider's own key share one virtual key.
            raise errors.forbidden(
                "A provider's own key has no usage here: send a virtual key.", reason="passed_through"
            )
        start, until = span(request.query_params)
        # A key that has used up its limits may still ask what it used.
        caller = await (await self.caller(own_limits=False)).permit(self.endpoint)
        lines, has_more = await own_usage.between(caller.runtime.records.ask, caller.key.id, start, until)
        shown = {
            "type": "usage",
            "virtual_key": caller.key.name,
            "starting_at": moment(start),
            "ending_at": moment(until),
            "data": [line(each) for each in lines],
            "has_more": has_more,
        }
        return caller.json(msgspec.json.encode(shown))


def span(query: QueryDict) -> tuple[datetime, datetime]:
    """The range that a query string asks for: its first moment, and the first moment after it. Without parameters, it
    is the last 30 days, of which today (UTC) is the last.

    Raises:
        GatewayError: 400, a parameter is unknown, repeated or no day, or the range is empty or too long.
    """
    unknown = [name for name in query if name not in PARAMETERS]
    if unknown:
        names = ", ".join(name[:NAME_LENGTH] for name in unknown[:NAMED])
        raise errors.invalid_request(f"{names}: unknown parameter. This endpoint takes {' and '.join(PARAMETERS)}.")
    start, until = (day(query, name) for name in PARAMETERS)
    if until is None:
        tomorrow = own_usage.tomorrow()
        until = tomorrow if start is None else min(start, tomorrow - timedelta(days=1)) + DEFAULT_SPAN
    if start is None:
        start = until - DEFAULT_SPAN
    if start >= until:
        raise errors.invalid_request("ending_at: must be later than starting_at.")
    if until - start > timedelta(days=MOST_DAYS):
        raise errors.invalid_request(f"starting_at, ending_at: the range must be at most {MOST_DAYS} days long.")
    return start, until


def day(query: QueryDict, name: str) -> datetime | None:
    """The first moment of the day that a parameter names; None without the parameter."""
    given = query.getlist(name)
    if not given:
        return None
    try:
        found = DAY.fullmatch(given[0]) if len(given) == 1 else None
        if found is None:
            raise ValueError
        parsed = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
        if not 2000 <= parsed.year < 9000:
            raise ValueError
    except ValueError:
        raise errors.invalid_request(
            f"{name}: must be one day in UTC, such as 2026-11-01 or 2026-11-01T00:00:00Z."
        ) from None
    return parsed


def line(used: DayUsage) -> dict[str, Any]:
    """A day and model, as the answer shows it."""
    shown = {name: getattr(used, name) for name in DayUsage.__slots__}
    return {"date": shown.pop("day").isoformat()} | shown | {"cost": amount(used.cost)}


def amount(cost: Decimal) -> str:
    """An exact amount without trailing zeros and without an exponent."""
    return f"{cost.normalize():f}"


def moment(when: datetime) -> str:
    """RFC 3339, UTC."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
