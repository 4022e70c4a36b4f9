"""What a member sees of a virtual key: what GET /v1/quota and GET /v1/usage answer, its refusals, and how to call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from administration.owners import standing
from keys.connection import BlockingReader, run_blocking
from keys.directory import Directory
from keys.models import VirtualKey
from messages_api.callers import quota
from usage import own_usage
from usage.budgets import length
from usage.limits import LimitKind
from usage.models import Refusal
from usage.own_usage import DayUsage
from usage.owner_days import Used, each_day
from usage.refusal_reasons import sentence

# Refusals that are listed, the latest ones.
REFUSALS = 20
# What a pause says to a member.
PAUSES = {
    "key paused": "This key is paused: its calls are refused until an administrator resumes it.",
    "team paused": "The team is paused: its calls are refused until an administrator resumes it.",
    "customer paused": "The customer is paused: its calls are refused until an administrator resumes it.",
    "gateway paused": "The whole gateway is paused: calls are refused until an administrator resumes it.",
    "restored copy": "This gateway is a restored copy: calls are refused until its operators activate it.",
}
OWNERS = {"virtual_key": "this key", "team": "its team", "customer": "its customer"}


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget of the quota, for a person: amounts as numbers, times as times, and its bar in percent."""

    owner: str
    terms: str
    unit: str
    amount: Decimal
    spent: Decimal
    held: Decimal
    left: Decimal
    resets_at: datetime | None
    exhausted_since: datetime | None
    bar: standing.Parts


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of the quota, for a person."""

    owner: str
    kind: str
    rate: int
    remaining: int
    particulars: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a key used in the last 30 days (UTC, today is the last): by day, by model, and in all."""

    days: dict[date, Used]
    models: list[tuple[str, Used]]
    total: Used
    complete: bool


def of_key(virtual_key: VirtualKey, credential: int) -> dict[str, Any]:
    """The variables of the page about a key, in a fixed number of queries.

    Args:
        credential: the id of one of the key's credentials.
    """
    state, usage = run_blocking(_read(virtual_key, credential))
    return {
        "quota": state,
        "month_ends": moment(state["this_month"]["ends_at"]),
        "spent": Decimal(state["this_month"]["spent"]),
        "budgets": [budget(each) for each in state["budgets"]],
        "limits": [limit(each) for each in state["limits"]],
        "usage": usage,
        "models": usage.models,
        "latest_days": list(usage.days.items())[::-1],
        "bars": standing.chart(usage.days),
        "height": standing.HEIGHT,
        "refusals": refusals(virtual_key),
    }


async def _read(virtual_key: VirtualKey, credential: int) -> tuple[dict[str, Any], Usage]:
    reader = BlockingReader()
    known = await Directory(reader).of_credential(credential)
    assert known is not None
    state = await quota.state(reader.fetch, known)
    until = own_usage.tomorrow()
    start = until - own_usage.DEFAULT_SPAN
    lines, has_more = await own_usage.between(reader.fetch, virtual_key.pk, start, until)
    return state, added_up(lines, start.date(), (until - timedelta(days=1)).date(), complete=not has_more)


def added_up(lines: Sequence[DayUsage], first: date, last: date, *, complete: bool) -> Usage:
    """Lines of a key's usage by day, and by model, the dearest first."""
    days = dict.fromkeys(each_day(first, last), Used())
    models: dict[str, Used] = {}
    for line in lines:
        read = line.input_tokens + line.cache_read_input_tokens
        read += line.cache_creation_5m_input_tokens + line.cache_creation_1h_input_tokens
        used = Used(line.calls, 0, line.cost, read, line.output_tokens)
        days[line.day] += used
        models[line.model] = models.get(line.model, Used()) + used
    dearest = sorted(models.items(), key=lambda item: (-item[1].cost, item[0]))
    return Usage(days, dearest, sum(days.values(), Used()), complete)


def budget(said: dict[str, Any]) -> Budget:
    """A budget, from its member of the quota."""
    amount, spent, held, left = (Decimal(said[name]) for name in ("amount", "spent", "held", "left"))
    terms = length(said["period"])
    kind = "" if said["enforcement"] == "hard" else said["enforcement"]
    return Budget(
        owner=OWNERS[said["owner"]["type"]],
        terms=terms + appended(kind, "rolling" if said["rolling"] else "", *particulars(said)),
        unit=said["unit"],
        amount=amount,
        spent=spent,
        held=held,
        left=left,
        resets_at=moment(said["resets_at"]),
        exhausted_since=moment(said["exhausted_since"]),
        bar=standing.parts(amount, spent, held, refuses=said["exhausted_since"] is not None),
    )


def limit(said: dict[str, Any]) -> Limit:
    """A limit, from its member of the quota."""
    kind = LimitKind(said["kind"]).unit(said["limit"])
    return Limit(OWNERS[said["owner"]["type"]], kind, said["limit"], said["remaining"], appended(*particulars(said)))


def particulars(said: dict[str, Any]) -> tuple[str, str]:
    """What a budget or limit is for, where it isn't for all calls."""
    models = f"for {' '.join(said['models'])}" if said["models"] else ""
    return models, f"by {said['provider_key']}" if said["provider_key"] else ""


def appended(*said: str) -> str:
    """These words, each after a comma."""
    return "".join(f", {part}" for part in said if part)


def moment(text: str | None) -> datetime | None:
    """A time of the quota."""
    return datetime.fromisoformat(text) if text else None


def refusals(virtual_key: VirtualKey) -> list[tuple[Refusal, str]]:
    """The latest refusals of a key's calls, each with its reason as a sentence."""
    rows = Refusal.objects.filter(virtual_key=virtual_key).order_by("-refused_at")[:REFUSALS]
    return [(row, sentence(row.reason)) for row in rows]
