"""The arbiter at a time of the test's choice, and budgets to ask it about."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.support.asked_arbiter import arbiter, give_credential
from tests.support.ledger_rows import make_cast
from usage.models import Budget, Window

NOVEMBER = datetime(2026, 11, 17, 12, tzinfo=UTC)


@pytest.fixture
def cast(apart):
    cast = make_cast()
    for key in (cast.alice, cast.bob, cast.charlie):
        give_credential(key)
    return cast


@pytest.fixture
def arbiter_(cast):
    with arbiter() as asked:
        asked.set_clock(NOVEMBER)
        yield asked


def budget(amount=1, **terms):
    """A budget, by default of USD a month."""
    return Budget.objects.create(amount=Decimal(str(amount)), **terms)


def window():
    """Spent and held of the only window."""
    found = Window.objects.get()
    return found.spent, found.held
