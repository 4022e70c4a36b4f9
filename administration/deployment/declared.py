"""What a file says that a deployment has. Only the members that it names count; all others stay as they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from administration.deployment.reading import Part
from keys import commands
from keys.errors import Unusable
from usage import budget_terms
from usage.budget_terms import Terms
from usage.limits import LimitKind

Read = Callable[[Part], Any]


def _moment(part: Part) -> datetime:
    try:
        return commands.moment(part.text())
    except Unusable as error:
        raise part.fault(str(error)) from None


def _amount(part: Part) -> Decimal:
    if isinstance(part.value, float):
        raise part.fault("put the amount in quotes, so that it is exact")
    try:
        return budget_terms.parse_amount(part.value if isinstance(part.value, str) else str(part.number()))
    except Unusable as error:
        raise part.fault(str(error)) from None


# The members of each kind by name in the file: the field, and how it is read.
CUSTOMER: dict[str, tuple[str, Read]] = {
    "time_zone": ("time_zone", Part.text),
    "fiscal_year_month": ("fiscal_year_month", Part.number),
    "language": ("language", Part.text),
    "paused": ("paused", Part.flag),
}
TEAM: dict[str, tuple[str, Read]] = {
    "max_tokens": ("max_tokens", Part.number),
    "default_max_tokens": ("default_max_tokens", Part.number),
    "paused": ("paused", Part.flag),
}
KEY: dict[str, tuple[str, Read]] = {
    "owner": ("owner", Part.text),
    "models": ("allowed_models", Part.texts),
    "deny_models": ("denied_models", Part.texts),
    "fallback_models": ("fallback_models", Part.texts),
    "adaptive_weights": ("adaptive_weights", Part.flag),
    "max_tokens": ("max_tokens", Part.number),
    "default_max_tokens": ("default_max_tokens", Part.number),
    "expires_at": ("expires_at", _moment),
    "labels": ("labels", Part.plain),
    "paused": ("active", lambda part: not part.flag()),
}
PROVIDER_KEY: dict[str, tuple[str, Read]] = {
    "provider": ("provider", Part.text),
    "base_url": ("base_url", Part.text),
    "region": ("region", Part.text),
    "project": ("project", Part.text),
    "models": ("model_patterns", Part.texts),
    "active": ("active", Part.flag),
}
# The default of a rule, and its ceiling (`most_…`).
RULES: dict[str, tuple[str, Read]] = {
    "period": ("period", Part.text),
    "models": ("allowed_models", Part.texts),
    **{name: (name, _amount) for name in ("budget", "most_budget")},
    **{name: (name, Part.number) for kind in (*LimitKind.values, "days") for name in (kind, f"most_{kind}")},
}
BUDGET = ("budget", "models", "rolling", "thresholds", "provider_key")
LIMIT = ("rate", "burst", "count_cached", "models")


@dataclass(slots=True)
class Budget:
    """A budget; `thresholds` None keeps those that it has. `first`: what a new one has in its first window, or as its
    first top-up, where that is less than the amount."""

    part: Part
    terms: Terms
    models: list[str] = field(default_factory=list)
    rolling: bool = False
    thresholds: list[int] | None = None
    provider_key: str | None = None
    first: Decimal | None = None


@dataclass(slots=True)
class Limit:
    """A limit; what is None stays as it is."""

    part: Part
    kind: LimitKind
    rate: int
    burst: int | None = None
    count_cached: bool | None = None
    models: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Owner:
    """What customers, teams and keys have in common."""

    part: Part
    name: str
    values: dict[str, Any] = field(default_factory=dict)
    budgets: list[Budget] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)


@dataclass(slots=True)
class Key(Owner):
    """A virtual key; `routes` None keeps those that it has, or stands for all active provider keys."""

    routes: dict[str, int] | None = None


@dataclass(slots=True)
class Rules:
    """The rules for a team's keys; without values, the team has none."""

    part: Part
    values: dict[str, Any] | None


@dataclass(slots=True)
class OfKeys(Owner):
    """What customers and teams have in common: keys."""

    keys: list[Key] = field(default_factory=list)


@dataclass(slots=True)
class Team(OfKeys):
    """A team with its keys; `rules` None keeps those that it has."""

    rules: Rules | None = None


@dataclass(slots=True)
class Customer(OfKeys):
    """A customer with its teams, and its keys without a team."""

    teams: list[Team] = field(default_factory=list)


@dataclass(slots=True)
class ProviderKey:
    """A provider key; without a secret it keeps the one that it has."""

    part: Part
    name: str
    values: dict[str, Any]
    secret: str = ""


@dataclass(slots=True)
class Deployment:
    """Everything that a file says."""

    provider_keys: list[ProviderKey] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    customers: list[Customer] = field(default_factory=list)


def read(whole: Part) -> Deployment:
    """What a file says.

    Raises:
        Unusable: a member is unknown, missing or of the wrong type; the message has its line and path.
    """
    members = whole.members(("provider_keys", "aliases", "customers"))
    aliases = members["aliases"] if "aliases" in members else Part({}, 0, "aliases")
    if not isinstance(aliases.value, dict):
        raise aliases.fault("expected a mapping of names to models")
    return Deployment(
        _each(members, "provider_keys", _provider_key),
        {name: part.text() for name, part in aliases.value.items()},
        _each(members, "customers", _customer),
    )


def _each(members: dict[str, Part], name: str, read_one: Callable[[Part], Any]) -> list[Any]:
    found = [read_one(part) for part in members[name].items()] if name in members else []
    names = set()
    for each in found:
        given = getattr(each, "name", None)
        if given is not None and given in names:
            raise each.part.fault(f"“{given}” occurs twice")
        names.add(given)
    return found


def _name(part: Part, members: dict[str, Part]) -> str:
    if "name" not in members:
        raise part.fault("the name is missing")
    return members["name"].text().strip()


def _values(members: dict[str, Part], known: dict[str, tuple[str, Read]]) -> dict[str, Any]:
    found = {}
    for name, part in members.items():
        if name in known:
            field_, read_one = known[name]
            # Null takes a value away where a value may be missing.
            found[field_] = None if part.value is None else read_one(part)
    return found


def _owner(part: Part, known: dict[str, tuple[str, Read]], *more: str) -> tuple[dict[str, Part], dict[str, Any]]:
    members = part.members(("name", *known, "budgets", "limits", *more))
    return members, {
        "part": part,
        "name": _name(part, members),
        "values": _values(members, known),
        "budgets": _each(members, "budgets", _budget),
        "limits": _limits(members["limits"]) if "limits" in members else [],
    }


def _customer(part: Part) -> Customer:
    members, common = _owner(part, CUSTOMER, "teams", "keys")
    return Customer(**common, teams=_each(members, "teams", _team), keys=_each(members, "keys", _key))


def _team(part: Part) -> Team:
    members, common = _owner(part, TEAM, "keys", "key_rules")
    rules = _rules(members["key_rules"]) if "key_rules" in members else None
    return Team(**common, keys=_each(members, "keys", _key), rules=rules)


def _rules(part: Part) -> Rules:
    return Rules(part, None if part.value is None else _values(part.members(RULES), RULES))


def _key(part: Part) -> Key:
    members, common = _owner(part, KEY, "provider_keys")
    return Key(**common, routes=_routes(members["provider_keys"]) if "provider_keys" in members else None)


def _routes(part: Part) -> dict[str, int]:
    if isinstance(part.value, dict):
        return {name: weight.number() for name, weight in part.value.items()}
    return dict.fromkeys(part.texts(), 1)


def _budget(part: Part) -> Budget:
    members = {"budget": part} if isinstance(part.value, str) else part.members(BUDGET)
    if "budget" not in members:
        raise part.fault(f"the budget is missing, such as {budget_terms.EXAMPLE}")
    thresholds = members.get("thresholds")
    try:
        terms = budget_terms.parse(members["budget"].text())
        percentages = (
            budget_terms.check_thresholds(each.number() for each in thresholds.items()) if thresholds else None
        )
    except Unusable as error:
        raise part.fault(str(error)) from None
    return Budget(
        part,
        terms,
        members["models"].texts() if "models" in members else [],
        members["rolling"].flag() if "rolling" in members else False,
        percentages,
        members["provider_key"].text() if "provider_key" in members else None,
    )


def _limits(part: Part) -> list[Limit]:
    """Limits as a mapping: `rpm: 60`, or `input_tpm: {rate: 40000, burst: 10000}`."""
    found = []
    for kind, given in part.members(LimitKind.values).items():
        members = {"rate": given} if isinstance(given.value, int) else given.members(LIMIT)
        if "rate" not in members:
            raise given.fault("the rate is missing")
        found.append(
            Limit(
                given,
                LimitKind(kind),
                members["rate"].number(),
                members["burst"].number() if "burst" in members else None,
                members["count_cached"].flag() if "count_cached" in members else None,
                members["models"].texts() if "models" in members else [],
            )
        )
    return found


def _provider_key(part: Part) -> ProviderKey:
    members = part.members(("name", *PROVIDER_KEY, "secret_env"))
    secret = ""
    if "secret_env" in members:
        variable = members["secret_env"].text()
        secret = os.environ.get(variable, "").strip()
        if not secret:
            raise members["secret_env"].fault(f"the environment variable {variable} is empty or not set")
    return ProviderKey(part, _name(part, members), _values(members, PROVIDER_KEY), secret)
