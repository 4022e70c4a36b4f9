"""Budgets and limits in answers to a caller: refusals (worded by wording.py), and the state of its limits."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_UP, Decimal
from functools import lru_cache
from typing import Any, Protocol

from keys.connection import Values
from messages_api.callers import wording
from messages_api.server import errors
from messages_api.server.errors import GatewayError
from messages_api.upstream.client import Headers
from usage.arbitration import Admission
from usage.budgets import OWNERS
from usage.own_usage import THIS_MONTH
from usage.standing import STANDING

# The smallest `max_tokens` that is suggested: a shorter answer is of no use.
USEFUL_TOKENS = 100

# https://docs.claude.com/en/api/rate-limits#response-headers
HEADERS = {"rpm": b"requests", "input_tpm": b"input-tokens", "output_tpm": b"output-tokens"}


# A fraction of a second that isn't zero, in UTC.
UTC_FRACTION = re.compile(r"\.0*[1-9][0-9]*\+00:00")

# Runs a query, and returns its rows.
Fetch = Callable[[str, Values], Awaitable[list[tuple[Any, ...]]]]


class Bounds(Protocol):
    """A key's id, and its bounds on `max_tokens`."""

    @property
    def id(self) -> int: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def default_max_tokens(self) -> int | None: ...


def over_budget(details: dict[str, Any], admission: Admission) -> GatewayError:
    """The error for a call that a budget refuses.

    Args:
        details: the arbiter's facts about it (usage_refusal in usage/arbiter/admissions.sql).
    """
    max_tokens = affordable(details, admission)
    return errors.over_budget(wording.over_budget(details, max_tokens), facts=details | {"max_tokens": max_tokens})


def affordable(details: dict[str, Any], admission: Admission) -> int:
    """The `max_tokens` with which the call would fit, in round numbers; 0 if only a useless one would fit."""
    if details["enforcement"] == "expected":
        return 0
    price = Decimal(1) if details["unit"] == "tokens" else admission.output_price.scaleb(-6)
    if price <= 0:
        return 0
    too_much = Decimal(details["needed"]) - Decimal(details["left"])
    tokens = int(admission.max_tokens - (too_much / price).to_integral_value(ROUND_UP))
    if tokens < USEFUL_TOKENS:
        return 0
    step: int = 10 ** (len(str(tokens)) - 2)
    return tokens - tokens % step


def over_limit(details: dict[str, Any]) -> GatewayError:
    """The error for a call that a limit refuses."""
    kind, seconds = details["kind"], int(details["retry_after"])
    again = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    stands = {"kind": kind, "limit": details["rate"], "remaining": details["left"], "reset": again}
    return errors.over_limit(
        wording.over_limit(details), retry_after=seconds, headers=standing([stands]), facts=details
    )


def nearly_empty(standing: list[dict[str, Any]] | None) -> bool:
    """Whether a budget of an admitted call has too little left for another such call until this one is settled."""
    return standing is not None and any(each["kind"] == "budget" for each in standing)


def standing(limits: list[dict[str, Any]] | None) -> Headers:
    """The `anthropic-ratelimit-*` headers for an answer. If there are several limits of a kind, the one with the least
    left counts.

    Args:
        limits: the arbiter's facts about an admitted call's limits (in usage/arbiter/admissions.sql).
    """
    if not limits:
        return []
    tightest: dict[bytes, dict[str, Any]] = {}
    for limit in sorted(limits, key=lambda limit: limit["remaining"], reverse=True):
        if limit["kind"] in HEADERS:
            tightest[HEADERS[limit["kind"]]] = limit
            if limit["kind"] != "rpm":
                tightest[b"tokens"] = limit
    found: Headers = []
    for name, limit in tightest.items():
        for member, value in (
            (b"limit", str(limit["limit"])),
            (b"remaining", str(limit["remaining"])),
            (b"reset", whole_second(limit["reset"])),
        ):
            found.append((b"anthropic-ratelimit-%b-%b" % (name, member), value.encode()))
    return found


async def state(fetch: Fetch, key: Bounds) -> dict[str, Any]:
    """The state of a key's budgets and limits, and what it has spent this month, in the form of GET /v1/quota."""
    asked = {"virtual_key": key.id}
    standing, month = await fetch(STANDING, asked), await fetch(THIS_MONTH, asked)
    return shown(standing[0][0], month[0][0], key)


def shown(standing: dict[str, Any], month: dict[str, Any], key: Bounds) -> dict[str, Any]:
    """The state of a key's budgets and limits, in the form of GET /v1/quota.

    Args:
        standing: the result of `usage.standing.STANDING`.
        month: the result of `usage.own_usage.THIS_MONTH`.
    """
    zone = zoneinfo.ZoneInfo(standing["time_zone"])
    names = {owner: standing[owner] for owner in OWNERS}
    return {
        "type": "quota",
        **names,
        "time_zone": standing["time_zone"],
        "as_of": whole_second(standing["as_of"]),
        "max_tokens": {"ceiling": key.max_tokens, "default": key.default_max_tokens},
        "this_month": month | {name: whole_second(month[name]) for name in ("starts_at", "ends_at")},
        "budgets": [
            budget
            | {"owner": owner(budget, names)}
            | {
                "starts_at": budget["starts_at"] and whole_second(budget["starts_at"]),
                "resets_at": budget["resets_at"] and whole_second(budget["resets_at"]),
                "exhausted_since": budget["exhausted_since"] and whole_second(budget["exhausted_since"]),
                "resets_at_local": budget["resets_at"] and local(budget["resets_at"], zone),
            }
            for budget in standing["budgets"]
        ],
        "limits": [
            limit
            | {"owner": owner(limit, names)}
            | {"resets_at": limit["resets_at"] and whole_second(limit["resets_at"])}
            for limit in standing["limits"]
        ],
    }


def owner(owned: dict[str, Any], names: dict[str, str]) -> dict[str, str]:
    """The owner of a budget or limit."""
    kind = OWNERS[owned["owner"]]
    return {"type": kind, "name": names[kind]}


def local(moment: str, zone: zoneinfo.ZoneInfo) -> str:
    """A time in RFC 3339, in the given time zone."""
    return datetime.fromisoformat(moment).astimezone(zone).isoformat(timespec="seconds")


def whole_second(moment: str) -> str:
    """A time in RFC 3339, UTC, rounded up."""
    # In this form, all times of a second have the same result.
    second, fraction = moment[:19], moment[19:]
    return rounded_up(second + ".5Z" if UTC_FRACTION.fullmatch(fraction) else moment)


# The limits of a process's calls are full again within the same few minutes.
@lru_cache(maxsize=1000)
def rounded_up(moment: str) -> str:
    exact = datetime.fromisoformat(moment).astimezone(UTC)
    rounded = exact.replace(microsecond=0) + timedelta(seconds=1 if exact.microsecond else 0)
    return rounded.replace(tzinfo=None).isoformat() + "Z"
