"""Who is billed in tests of statements, and calls with prices."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from billing import closing
from billing.models import Issuer, Particulars, Statement
from keys.models import Customer
from tests.support.ledger_rows import make_entry
from usage.models import Adjustment, LedgerEntry
from usage.pricing import load_price_book
from usage.tokens import TOKEN_COLUMNS, TokenCounts

OCTOBER, SEPTEMBER = date(2026, 10, 1), date(2026, 9, 1)
IN_OCTOBER = datetime(2026, 10, 5, 9, 30, tzinfo=UTC)
OPUS, SONNET = "claude-opus-5-5", "claude-sonnet-5-5"
USED = TokenCounts(input_tokens=1_000, output_tokens=300, cache_read_input_tokens=70)


def make_issuer(**changes: Any) -> Issuer:
    """The issuer Platform, with numbers from PF-00001."""
    return Issuer.objects.create(**{"name": "Platform", "address": "1 High Street", "prefix": "PF"} | changes)


def bill(customer: Customer, issuer: Issuer, **changes: Any) -> Particulars:
    """The billing particulars of a customer."""
    return Particulars.objects.create(customer=customer, issuer=issuer, **changes)


def called(key: Any, at: datetime = IN_OCTOBER, used: TokenCounts = USED, model: str = OPUS, **changes: Any) -> UUID:
    """A call at its list price."""
    price = load_price_book().price("anthropic", model, at)
    plain = {"cost": price.cost(used), "price_version": price.version, "model": model, "at": at}
    row: UUID = make_entry(key, **({name: getattr(used, name) for name in TOKEN_COLUMNS} | plain | changes))
    return row


def corrected(call: UUID, amount: str, reason: str = "agreed") -> Adjustment:
    """A correction of a call, in USD."""
    return Adjustment.objects.create(
        entry_id=call, reason="correction", author="finance", cost=Decimal(amount), detail={"reason": reason}
    )


def no_files(statement: Statement, document: bytes) -> dict[str, bytes]:
    """No file."""
    return {}


def close(customer: Customer, month: date = OCTOBER, **options: Any) -> list[Statement]:
    """Close a month without files. Tests that run beside this one may have long transactions."""
    given: dict[str, Any] = {"by": "finance", "make_files": no_files, "lease": timedelta(seconds=60)} | options
    return closing.close(customer, month, **given)


def ledger_sum(customer: Customer) -> Decimal:
    """What the whole ledger says that a customer owes, in USD."""
    rows = list(LedgerEntry.objects.filter(customer=customer))
    changes = Adjustment.objects.filter(entry_id__in=[row.pk for row in rows])
    return sum((row.owed for row in rows), Decimal(0)) + sum((one.owed for one in changes), Decimal(0))
