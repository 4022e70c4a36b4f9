"""The customers, teams, keys and budgets of demo data: the same for the same options, on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from django.db import connection
from django.db.models import Max, Model

from keys.models import (
    Credential,
    CredentialKind,
    Customer,
    ModelList,
    ProviderKey,
    Team,
    VirtualKey,
    VirtualKeyRoute,
)
from usage.budgets import Budget, Enforcement, Period, Unit
from usage.demo.models_used import CODING, DOCUMENTS, HABITS, PROVIDER_KEYS, SERVICE
from usage.demo.options import Options
from usage.limits import Limit, LimitKind

CUSTOMERS = (
    ("Meridian Logistics", "Europe/Berlin"),
    ("Harbour Insurance", "America/New_York"),
    ("Northlight Retail", "Europe/London"),
    ("Kestrel Software", "America/Los_Angeles"),
    ("Saffron Foods", "Asia/Kolkata"),
    ("Aurora Energy", "Europe/Stockholm"),
    ("Blue Ridge Health", "America/Chicago"),
    ("Cobalt Bank", "Europe/Zurich"),
    ("Pacific Freight", "Australia/Sydney"),
    ("Sakura Electronics", "Asia/Tokyo"),
    ("Tidewater Media", "America/Sao_Paulo"),
    ("Union Telecom", "Europe/Madrid"),
)
TEAMS = (
    ("Platform", CODING),
    ("Customer support", SERVICE),
    ("Data science", CODING),
    ("Claims", DOCUMENTS),
    ("Mobile apps", CODING),
    ("Marketing", 1),
    ("Search", SERVICE),
    ("Finance", 1),
    ("Internal tools", CODING),
    ("Research", 1),
    ("Security", CODING),
    ("Legal", DOCUMENTS),
)
KEY_NAMES = {
    0: ("workstation", "code-review", "ci", "notebook", "migration"),
    1: ("assistant", "drafts", "translation", "workspace"),
    2: ("chat-widget", "classifier", "router", "summaries", "recommendations"),
    3: ("nightly-extraction", "document-import", "labelling"),
}
PROJECTS = ("atlas", "beacon", "compass", "delta", "ember", "fjord", "granite", "horizon")
# A key's share of all calls falls with its rank; keys of services have more.
STEEPNESS = 0.75
# Of these parts of the range, a key is made after its beginning, and revoked or expired before its end.
LATE, GONE, ROTATED = 0.35, 0.12, 0.15
DIGEST = 32


@dataclass(slots=True)
class DemoKey:
    """A virtual key as calls are made with it; a row of the table `demo_key` (usage/demo/calls.py).

    Attributes:
        n: its number, from 0.
        habit: how it is used (usage/demo/models_used.py).
        weight: its share of calls, against those of the others.
        credential, later_credential: the second one from `rotated_at` on.
        long_cache: its clients write caches that last an hour.
        runaway: on one day it makes very many calls.
    """

    n: int
    key: int
    team: int | None
    customer: int
    zone: str
    habit: int
    weight: float
    born: datetime
    gone: datetime | None
    credential: int
    later_credential: int | None
    rotated_at: datetime | None
    labels: dict[str, str]
    in_us: bool
    long_cache: bool
    runaway: bool


@dataclass(slots=True)
class Cast:
    """All rows to add, and the keys as calls are made with them."""

    provider_keys: list[ProviderKey] = field(default_factory=list)
    customers: list[Customer] = field(default_factory=list)
    teams: list[Team] = field(default_factory=list)
    keys: list[VirtualKey] = field(default_factory=list)
    credentials: list[Credential] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    used: list[DemoKey] = field(default_factory=list)

    def rows(self) -> Iterator[list[Any]]:
        """The rows of each table, in the order in which they refer to each other."""
        yield from (self.provider_keys, self.customers, self.teams, self.keys, self.credentials)
        yield from (self.budgets, self.limits)

    def save(self) -> None:
        """Add the rows, and let the sequences of ids go on after them."""
        for rows in self.rows():
            if rows:
                type(rows[0])._default_manager.bulk_create(rows, batch_size=1000)
        number = len(self.provider_keys)
        routes = [
            VirtualKeyRoute(virtual_key=key, provider_key=self.provider_keys[(key.pk + turn) % number])
            for key in self.keys
            for turn in range(min(2, number))
        ]
        VirtualKeyRoute.objects.bulk_create(routes, batch_size=1000)
        ModelList.objects.bulk_create([ModelList(provider_key=each) for each in self.provider_keys])
        with connection.cursor() as cursor:
            for model in KINDS.values():
                # Ids were given, so the sequences have not moved.
                cursor.execute(
                    "SELECT setval(pg_get_serial_sequence(%s, 'id'), greatest(%s, 1))",
                    [model._meta.db_table, last_id(model)],
                )


KINDS: dict[str, type[Model]] = {
    "provider_key": ProviderKey,
    "customer": Customer,
    "team": Team,
    "key": VirtualKey,
    "credential": Credential,
    "budget": Budget,
    "limit": Limit,
}


def last_id(model: type[Model]) -> int:
    """The highest id of a table; 0 if it is empty."""
    highest: int | None = model._default_manager.aggregate(last=Max("pk"))["last"]
    return highest or 0


def first_ids() -> dict[str, int]:
    """The first free id of each kind of row."""
    return {kind: last_id(model) + 1 for kind, model in KINDS.items()}


def make(options: Options, firsts: dict[str, int]) -> Cast:
    """The cast of these options, with ids from `firsts` on; the database isn't read."""
    chance = random.Random(options.seed)  # noqa: S311  (no secret is made with it)
    cast = Cast()
    since, span = options.since, options.until - options.since
    for number, (name, provider, address, patterns) in enumerate(PROVIDER_KEYS):
        cast.provider_keys.append(
            ProviderKey(
                id=firsts["provider_key"] + number,
                name=name,
                provider=provider,
                base_url=address,
                model_patterns=list(patterns),
                created_at=since,
            )
        )
    for number in range(options.customers):
        name, zone = CUSTOMERS[number % len(CUSTOMERS)]
        again = number // len(CUSTOMERS)
        cast.customers.append(
            Customer(
                id=firsts["customer"] + number,
                name=f"{name} {again + 1}" if again else name,
                time_zone=zone,
                created_at=since,
            )
        )
    for number in range(options.teams):
        turn, place = divmod(number, options.customers)
        customer = cast.customers[place]
        name, _ = TEAMS[(place * 5 + turn) % len(TEAMS)]
        again = turn // len(TEAMS)
        cast.teams.append(
            Team(
                id=firsts["team"] + number,
                customer=customer,
                name=f"{name} {again + 1}" if again else name,
                created_at=since,
            )
        )
    habits = dict(TEAMS)
    for number in range(options.keys):
        _add_key(cast, chance, options, firsts, number, habits, since, span)
    _add_budgets(cast, chance, firsts, since)
    return cast


def _add_key(
    cast: Cast,
    chance: random.Random,
    options: Options,
    firsts: dict[str, int],
    number: int,
    habits: dict[str, int],
    since: datetime,
    span: timedelta,
) -> None:
    team = cast.teams[number % len(cast.teams)] if cast.teams else None
    customer = team.customer if team else cast.customers[number % len(cast.customers)]
    habit = habits.get(team.name.rstrip(" 0123456789"), SERVICE) if team else SERVICE
    if chance.random() < 0.25:  # not all keys of a team do the same
        habit = chance.randrange(len(HABITS))
    born = since + span * (chance.random() * 0.85 if chance.random() < LATE and number >= 5 else 0)
    gone = None
    if chance.random() < GONE and number >= 5:
        gone = born + (options.until - born) * (0.4 + 0.5 * chance.random())
    revoked = gone is not None and chance.random() < 0.6
    names = KEY_NAMES[habit]
    labels = {
        "cost_centre": str(4100 + 10 * (customer.pk - firsts["customer"]) + chance.randrange(4)),
        "project": PROJECTS[chance.randrange(len(PROJECTS))],
    }
    key = VirtualKey(
        id=firsts["key"] + number,
        name=f"{names[chance.randrange(len(names))]}-{number + 1:03}",
        customer=customer,
        team=team,
        owner=f"{team.name.lower().replace(' ', '-')}@example.com" if team else "",
        labels=labels,
        created_at=born,
        revoked_at=gone if revoked else None,
        revoke_reason="replaced by another key" if revoked else "",
        expires_at=None if revoked else gone,
    )
    cast.keys.append(key)
    rotated_at = born + ((gone or options.until) - born) / 2 if chance.random() < ROTATED else None
    first = len(cast.credentials)
    for part, made in enumerate([born, *([rotated_at] if rotated_at else [])]):
        # No secret has these digests, so no caller can use a key of the demo.
        seen = sha256(f"demo {options.seed} {number} {part}".encode()).hexdigest()
        cast.credentials.append(
            Credential(
                id=firsts["credential"] + len(cast.credentials),
                kind=CredentialKind.VIRTUAL_KEY,
                virtual_key=key,
                digest=sha256(f"demo {options.seed} {key.pk} {part} {options.until}".encode()).digest(),
                pepper="demo",
                first=f"sk-bf-{seen[:3]}",
                last=seen[-4:],
                created_at=made,
                expires_at=rotated_at + timedelta(days=1) if rotated_at and part == 0 else None,
                revoked_at=gone if revoked else None,
            )
        )
    cast.used.append(
        DemoKey(
            n=number,
            key=key.pk,
            team=team.pk if team else None,
            customer=customer.pk,
            zone=customer.time_zone,
            habit=habit,
            weight=HABITS[habit].weight * (0.4 + 1.2 * chance.random()) / (number + 3) ** STEEPNESS,
            born=born,
            gone=gone,
            credential=cast.credentials[first].pk,
            later_credential=cast.credentials[first + 1].pk if rotated_at else None,
            rotated_at=rotated_at,
            labels=labels,
            in_us=customer.time_zone.startswith("America/") and chance.random() < 0.3,
            long_cache=chance.random() < 0.2,
            runaway=number == min(7, options.keys - 1),
        )
    )


def _add_budgets(cast: Cast, chance: random.Random, firsts: dict[str, int], since: datetime) -> None:
    """Each owner has at most one budget, so that a call has at most three. Their amounts follow what was spent
    (usage/demo/finish.py)."""

    def budget(period: Period, enforcement: Enforcement, unit: Unit = Unit.USD, **owner: Any) -> None:
        cast.budgets.append(
            Budget(
                id=firsts["budget"] + len(cast.budgets),
                unit=unit,
                amount=0,
                period=period,
                enforcement=enforcement,
                thresholds=[] if period == Period.NONE else [80, 100],
                created_at=since,
                **owner,
            )
        )

    def limit(kind: LimitKind, rate: int, **owner: Any) -> None:
        cast.limits.append(
            Limit(id=firsts["limit"] + len(cast.limits), kind=kind, rate=rate, created_at=since, **owner)
        )

    for customer in cast.customers:
        budget(Period.MONTH, Enforcement.SOFT, customer=customer)
    for number, team in enumerate(cast.teams):
        if number == 2:
            budget(Period.NONE, Enforcement.HARD, team=team)
        elif number == 5:
            budget(Period.MONTH, Enforcement.HARD, Unit.TOKENS, team=team)
        elif chance.random() < 0.7:
            budget(Period.MONTH, Enforcement.HARD, team=team)
        if chance.random() < 0.4:
            limit(LimitKind.REQUESTS, chance.choice((60, 120, 300, 600)), team=team)
    for key in cast.keys:
        if key.revoked_at is None and chance.random() < 0.35:
            budget(
                chance.choice((Period.MONTH, Period.MONTH, Period.WEEK, Period.DAY)), Enforcement.HARD, virtual_key=key
            )
        if key.revoked_at is None and chance.random() < 0.2:
            limit(LimitKind.OUTPUT_TOKENS, chance.choice((20_000, 80_000, 200_000)), virtual_key=key)


def as_json(used: list[DemoKey]) -> list[dict[str, Any]]:
    """The keys for `jsonb_to_recordset`; times in ISO 8601."""
    return [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(key).items()}
        for key in used
    ]
