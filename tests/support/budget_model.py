"""Budgets as the model of the arbiter knows them: their windows, and what a call needs of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from keys import patterns
from usage.arbitration import Admission

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Place = tuple[int, datetime]


@dataclass
class Model:
    """A budget as the model knows it."""

    pk: int
    owner: tuple[str, int]
    amount: Decimal
    period: str
    patterns: list[str]
    enforcement: str
    tokens: bool
    provider_key: int | None = None
    deleted: bool = False
    # Of a rolling one: when its windows began. Of overrides: until when, and how much.
    begun: list[datetime] = field(default_factory=list)
    overrides: list[tuple[datetime, Decimal]] = field(default_factory=list)

    @property
    def rolling(self) -> bool:
        return self.period == "rolling hour"

    def window(self, now: datetime) -> Place:
        """Its window at a moment, in UTC."""
        if self.rolling:
            current = [start for start in self.begun if now < start + timedelta(hours=1)]
            return self.pk, current[-1] if current else now
        start = {
            "none": EPOCH,
            "hour": now.replace(minute=0, second=0, microsecond=0),
            "day": now.replace(hour=0, minute=0, second=0, microsecond=0),
            "month": now.replace(day=1, hour=0, minute=0, second=0, microsecond=0),
        }[self.period]
        return self.pk, start

    def allowed(self, now: datetime) -> Decimal:
        """What it allows at a moment."""
        current = [amount for until, amount in self.overrides if now < until]
        return current[-1] if current else self.amount


@dataclass
class Open:
    """A call that runs, and what is held for it where."""

    call: Admission
    held: dict[Place, Decimal]
    limited: bool
    spent: dict[Place, Decimal] = field(default_factory=dict)


def models(call: Admission) -> list[str]:
    """The models that a call asks for."""
    return list(call.shares or [call.requested_model])


def of(budget: Model, model: str) -> bool:
    """Whether a budget is for a model."""
    return not budget.patterns or patterns.matches(budget.patterns, model)


def need(call: Admission, budget: Model) -> Decimal:
    """What a call needs of a budget: its share of the budget's models, where it is of several."""
    if call.shares:
        parts = [share for model, share in call.shares.items() if of(budget, model)]
        return sum((Decimal(part.tokens) if budget.tokens else part.ceiling for part in parts), Decimal(0))
    return Decimal(call.input_ceiling + call.max_tokens) if budget.tokens else call.ceiling
