"""An organisation whose provider reports what the gateway sent, and tests plant differences into both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from keys import provider_keys
from keys.models import ProviderKey
from reconciliation import admin_keys
from reconciliation.models import AdminKey, Comparison
from reconciliation.reads import TOKEN_TYPES
from tests.support.ledger_rows import Cast, empty_ledger, make_cast, make_entry
from tests.support.reports_provider import FakeReports, Item, serving
from usage.pricing import load_price_book
from usage.rates import ModelPrice
from usage.tokens import TokenCounts

OPUS, SONNET, HAIKU = "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-4-5"
MONTH = datetime(2026, 11, 1, tzinfo=UTC)
# After the month, while its figures may change still.
READ_AT = datetime(2026, 12, 2, 7, 0, tzinfo=UTC)
USED = {"input_tokens": 1000, "output_tokens": 300, "cache_read_input_tokens": 70}
SECRET = "sk-ant-api03-R2D" + "x" * 60 + "igAA"
HINT = "sk-ant-api03-R2D...igAA"
OURS = "apikey_ours"


def at(day: int, hour: int = 10, minute: int = 0, second: int = 0) -> datetime:
    """A moment of the month."""
    return MONTH.replace(day=day, hour=hour, minute=minute, second=second)


def listed(model: str, provider: str = "anthropic") -> ModelPrice:
    """What our price book says."""
    return load_price_book().price(provider, model, at(1))


def amounts(
    model: str, tokens: dict[str, int], factor: Decimal = Decimal(1), provider: str = "anthropic"
) -> dict[str, Decimal]:
    """USD by type of tokens, at our price book's price times a factor."""
    price = listed(model, provider)
    return {name: price.cost(TokenCounts(**{name: count})) * factor for name, count in tokens.items()}


def cost(model: str, tokens: dict[str, int], factor: Decimal = Decimal(1)) -> Decimal:
    """Their sum."""
    return sum(amounts(model, tokens, factor).values(), Decimal(0))


def moment(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    """Let it be another time for Python."""
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)


@dataclass
class Organisation:
    """Both sides.

    Attributes:
        key: the provider key of ours that the provider calls `OURS`.
    """

    cast: Cast
    key: ProviderKey
    admin_key: AdminKey
    reports: FakeReports
    provider: str = "anthropic"
    planted: dict[str, Decimal] = field(default_factory=dict)

    def sent(self, when: datetime, tokens: dict[str, int] | None = None, model: str = OPUS, **changes: Any) -> UUID:
        """A call that the ledger has."""
        tokens = USED if tokens is None else tokens
        price = listed(model, self.provider)
        plain = {
            **dict.fromkeys(TOKEN_TYPES, 0),
            **tokens,
            "model": model,
            "provider": self.provider,
            "cost": price.cost(TokenCounts(**tokens)),
            "price_version": price.version,
        }
        call: UUID = make_entry(changes.pop("by", self.cast.alice), when, self.key, **(plain | changes))
        return call

    def counted(
        self,
        when: datetime,
        tokens: dict[str, int] | None = None,
        model: str = OPUS,
        *,
        requests: int | None = 1,
        api_key_id: str | None = OURS,
        paid: Decimal = Decimal(1),
        at_list: Decimal = Decimal(1),
        **changes: Any,
    ) -> Item:
        """A use that the provider counts. `paid`, `at_list`: times our price book's price."""
        tokens = dict(USED if tokens is None else tokens)
        hour = when.replace(minute=0, second=0, microsecond=0)
        item = Item(
            hour,
            api_key_id,
            model,
            requests,
            tokens,
            amounts(model, tokens, paid, self.provider),
            amounts(model, tokens, at_list, self.provider),
            **changes,
        )
        self.reports.items.append(item)
        return item

    def both(self, when: datetime, tokens: dict[str, int] | None = None, model: str = OPUS, **changes: Any) -> UUID:
        """A call that both sides have."""
        self.counted(when, tokens, model, **changes)
        return self.sent(when, tokens, model)


@contextmanager
def organisation(provider: str = "anthropic", make: Callable[[], Cast] = make_cast) -> Iterator[Organisation]:
    """An organisation with a provider key of ours and an admin key that reads its reports.

    Args:
        make: makes who calls.
    """
    empty_ledger()
    cast = make()
    reports = FakeReports()
    hints = {
        "anthropic": {"id": OURS, "name": "gateway", "partial_key_hint": HINT, "status": "active"},
        "openai": {"id": OURS, "name": "gateway", "redacted_value": "sk-proj-R2D***igAA"},
    }
    secret = SECRET if provider == "anthropic" else "sk-proj-R2D" + "x" * 60 + "igAA"
    reports.keys.append(hints[provider])
    key = provider_keys.add_provider_key(name=f"{provider} main", provider=provider, secret=secret)
    with serving(reports) as url:
        admin_key = AdminKey(name="organisation", provider=provider, base_url=url, requests_a_minute=60)
        admin_keys.save(admin_key, reports.secret)
        # Tests don't wait for their turn, so it must come soon by the database's clock.
        AdminKey.objects.update(requests_a_minute=30_000)
        yield Organisation(cast, key, admin_key, reports, provider)


def compared(**terms: Any) -> list[Comparison]:
    """Comparisons of provider keys of ours."""
    return list(Comparison.objects.filter(provider_key__isnull=False, **terms).order_by("start", "model", "mode"))


def total(rows: list[Comparison], name: str) -> Decimal:
    """The sum of a column or property."""
    return sum((getattr(row, name) for row in rows), Decimal(0))


HOUR = timedelta(hours=1)
