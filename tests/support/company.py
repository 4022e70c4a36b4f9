"""A company that has used the gateway for a month: customers, teams, keys, people, and calls by day."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Sum
from django.utils import timezone

from administration.role_names import Role
from administration.roles import giving
from keys import issuing, provider_keys
from keys.models import Customer, ProviderKey, Team, VirtualKey
from tests.support.ledger_rows import make_entry
from tests.support.signing_in import PASSWORD
from usage import rollups
from usage.budgets import Budget, Period, Window
from usage.limits import Limit
from usage.models import KeyRules, LedgerEntry

DAYS = 30
OPUS, SONNET, HAIKU = "claude-opus-4-8", "claude-sonnet-4-6", "claude-haiku-4-5"
# Customer, team, key, model, and the cost of a day's calls.
KEYS = (
    ("Northwind", "Research", "notebooks", OPUS, "9.1640"),
    ("Northwind", "Research", "evaluation", SONNET, "4.2075"),
    ("Northwind", "Platform", "ci", HAIKU, "1.3120"),
    ("Contoso", "Support", "assistant", SONNET, "6.4410"),
    ("Contoso", "Support", "triage", HAIKU, "2.0385"),
)
OWNERS = {"Research": "dora", "Platform": "build@example.com", "Support": "desk@example.com"}
# How busy the days of a week are, Monday first, in percent.
WEEK = (100, 118, 96, 130, 104, 22, 15)


@dataclass
class Company:
    """What tests refer to. `secrets`: the virtual keys in plain text, by name."""

    provider_key: ProviderKey
    keys: dict[str, VirtualKey] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)

    def team_of(self, key: str) -> Team:
        team = self.keys[key].team
        assert team is not None
        return team


def make_company(provider_url: str) -> Company:
    """The company, which calls the provider at this address, and whose month is rolled up."""
    secret = "sk-ant-the-companys-own-4711"
    company = Company(
        provider_keys.add_provider_key(name="anthropic", provider="anthropic", base_url=provider_url, secret=secret)
    )
    for customer_name, team_name, name, *_ in KEYS:
        customer, _ = Customer.objects.get_or_create(name=customer_name)
        team, _ = Team.objects.get_or_create(customer=customer, name=team_name)
        company.keys[name], company.secrets[name] = issuing.issue_virtual_key(
            name=name, customer=customer, team=team, provider_keys=[(company.provider_key, 1)], owner=OWNERS[team_name]
        )
    make_calls(company)
    make_budgets(company)
    return company


def make_calls(company: Company) -> None:
    """A row a day for each key."""
    now = timezone.now()
    for days, (number, (_, _, name, model, cost)) in itertools.product(range(DAYS), enumerate(KEYS)):
        at = now - timedelta(days=days, hours=4 * number % 11, minutes=7 * number + 1)
        part = WEEK[at.weekday()] + (days * 7 + number * 5) % 17
        amount = (Decimal(cost) * part / 100).quantize(Decimal("0.0001"))
        tokens = int(amount * 60_000)
        make_entry(
            company.keys[name],
            at,
            company.provider_key,
            model=model,
            requested_model=model,
            cost=amount,
            input_tokens=tokens,
            output_tokens=tokens // 9,
            cache_read_input_tokens=tokens * 3,
            duration_ms=1800 + 90 * number,
            stream=bool(number % 2),
        )
    rollups.roll_up()


def make_budgets(company: Company) -> None:
    """Budgets and limits of the customers, of a team and of a key, and rules for a team's keys."""
    start = timezone.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    until = (start + timedelta(days=32)).replace(day=1)
    research, notebooks = company.team_of("notebooks"), company.keys["notebooks"]
    month = LedgerEntry.objects.filter(admitted_at__gte=start)
    owners: tuple[tuple[int, dict[str, Any]], ...] = (
        (800, {"customer": research.customer}),
        (500, {"customer": company.keys["triage"].customer}),
        (500, {"team": research}),
        (280, {"virtual_key": notebooks}),
    )
    for amount, owner in owners:
        budget = Budget.objects.create(amount=amount, period=Period.MONTH, **owner)
        Budget.objects.filter(pk=budget.pk).update(created_at=start)
        spent = month.filter(**owner).aggregate(cost=Sum("cost"))["cost"] or 0
        Window.objects.create(budget=budget, start=start, until=until, spent=spent, held=0)
    Limit.objects.create(virtual_key=notebooks, kind="rpm", rate=120)
    KeyRules.objects.create(team=research, budget=50, most_budget=200, most_rpm=120, most_days=365)


def make_person(name: str, role: Role, team: Team | None = None) -> User:
    """A person with a role and a password."""
    person = User.objects.create_user(name, password=PASSWORD)
    giving.give(None, person, role, team=team)
    return person
