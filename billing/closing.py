"""Closes months. Everything that a closing decides, writes and numbers is one transaction.

Locks are taken in this order: the customer's particulars, then the issuer. So of two people who close a month at once,
the second one finds it closed, and numbers have no gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import localcontext
from typing import Any

from django.conf import settings
from django.db import transaction

from billing import covers, documents, drafts
from billing.covers import Covered
from billing.documents import plain
from billing.drafts import Draft, Held, Month
from billing.lines import PRECISION
from billing.models import (
    CREDIT,
    CloseRequest,
    Closing,
    Cover,
    Issuer,
    Kind,
    Particulars,
    Statement,
    StatementFile,
    StatementLine,
)
from keys.audit.notes import note
from keys.errors import Unusable
from keys.models import Customer
from usage import moments, rollups
from usage.models import Hold

# Seconds between two looks at open holds.
LOOK = 0.2
# Makes files of a document when it is issued: names and bytes.
MakeFiles = Callable[[Statement, bytes], dict[str, bytes]]


def close(
    customer: Customer,
    month: date,
    *,
    by: str,
    make_files: MakeFiles,
    leave_earlier: bool = False,
    lease: timedelta | None = None,
) -> list[Statement]:
    """Close a month: wait for its calls, for one lease at most, then issue its documents.

    Args:
        by: the name of the person or command.
        leave_earlier: for a first statement: calls before it may stay on no statement.
        lease: how long to wait; None: LEASE_SECONDS.

    Returns:
        The documents; none if the issuer wants four eyes and `by` is the first person. That is recorded.

    Raises:
        Unusable: something is missing, the month is closed, or there is nothing to close.
    """
    period = drafts.period_of(customer, month)
    wait(customer.pk, period.ends_at, lease or timedelta(seconds=settings.CONFIGURATION.lease_seconds))
    rollups.freshen()
    with transaction.atomic(), localcontext(prec=PRECISION):
        asked_by = confirmed(lock(customer), month, by)
        return issue_all(customer, month, asked_by, by, make_files, leave_earlier) if asked_by else []


def wait(customer: int, until: datetime, lease: timedelta) -> None:
    """Wait until a customer's calls that were admitted before a time have ended and the transactions that end them are
    older than every running one; for the lease at most. Calls that outlive processes, such as batches, are not waited
    for.
    """
    end = time.monotonic() + lease.total_seconds()
    open_calls = Hold.objects.filter(customer=customer, admitted_at__lt=until, process__isnull=False)
    while open_calls.exists() and time.monotonic() < end:
        time.sleep(LOOK)
    target = covers.reachable()
    while int(covers.horizon()[0]) < target and time.monotonic() < end:
        time.sleep(LOOK / 4)


def lock(customer: Customer) -> Particulars:
    """The customer's particulars, so that closings and credit notes of a customer are one after the other.

    Raises:
        Unusable: it has none.
    """
    row = Particulars.objects.select_for_update(of=("self",)).filter(customer=customer).first()
    if row is None:
        raise Unusable(f"{customer} has no billing particulars: add them first")
    return row


def confirmed(particulars: Particulars, month: date, by: str) -> str | None:
    """Who closes the month: with four eyes the first person, once a second one is there; None: `by` is the first."""
    if not particulars.issuer.four_eyes:
        CloseRequest.objects.filter(customer=particulars.customer, month=month).delete()
        return by
    asked = CloseRequest.objects.filter(customer=particulars.customer, month=month).first()
    if asked is None:
        drafts.period_of(particulars.customer, month)
        CloseRequest.objects.create(customer=particulars.customer, month=month, asked_by=by)
        note("asked to close", Closing._meta.db_table, "", customer=particulars.customer_id, month=month)
        return None
    if asked.asked_by == by:
        return None
    asked.delete()
    return asked.asked_by


def issue_all(
    customer: Customer, month: date, asked_by: str, by: str, make_files: MakeFiles, leave_earlier: bool
) -> list[Statement]:
    """Issue the documents of a month."""
    below, high = covers.horizon()
    found = drafts.compute(customer, month, below)
    check(found, high, leave_earlier)
    period, at = found.period, moments.now()
    assert period.particulars is not None
    closing = Closing.objects.create(
        customer=customer,
        month=month,
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        zone=period.zone,
        below_xid=below,
        closed_at=at,
        closed_by=asked_by,
        confirmed_by=by if period.particulars.issuer.four_eyes else "",
    )
    keep_covers(closing, 0, found.covered)
    issuer = Issuer.objects.select_for_update().get(pk=period.particulars.issuer_id)
    issued = []
    for draft in found.drafts:
        content = content_of(draft, closing, found.covered, found.held)
        statement = Statement(kind=Kind.STATEMENT, closing=closing, total=draft.total, total_usd=draft.total_usd)
        issued.append(issue(statement, draft, content, issuer, at, make_files))
    numbers = ", ".join(each.number for each in issued)
    note("closed", Closing._meta.db_table, str(closing.pk), customer=customer.pk, month=month, numbers=numbers)
    return issued


def check(month: Month, high: str, leave_earlier: bool) -> None:
    """Check that a month can be closed.

    Raises:
        Unusable: it can't; the message says why.
    """
    previous = month.period.previous
    if month.missing:
        raise Unusable(" ".join(month.missing))
    if not month.drafts:
        raise Unusable(f"{month.period.customer} has no calls or adjustments to close in {month.period.month:%Y-%m}")
    if month.leaves is not None and not leave_earlier:
        raise Unusable(
            f"this would be the first statement of {month.period.customer}, and {month.leaves.calls:,} calls from "
            "before it would be on no statement: close their months first, or say that they are billed elsewhere"
        )
    if previous is not None and int(high) < int(previous.below_xid):
        raise Unusable(
            "the database counts transactions from a lower number than when a month was closed, because it was "
            "restored into a new server: see docs/statements.md"
        )


def keep_covers(closing: Closing, credit: int, covered: list[Covered]) -> None:
    """Store what a closing or credit note covers."""
    Cover.objects.bulk_create(
        Cover(
            closing=closing,
            credit=credit,
            starts_at=each.starts_at,
            ends_at=each.ends_at,
            from_xid=each.from_xid,
            below_xid=each.below_xid,
        )
        for each in covered
    )


def content_of(draft: Draft, closing: Closing, covered: list[Covered], held: Held | None) -> dict[str, Any]:
    """What a document says besides its lines, its number and its place in the chain."""
    period, sums = draft.period, draft.sums
    particulars = period.particulars
    assert particulars is not None
    return {
        "format": documents.FORMAT,
        "note": documents.NOTE,
        "customer": {
            "id": period.customer.pk,
            "name": period.customer.name,
            "billing_name": particulars.billing_name or period.customer.name,
            "address": particulars.address,
            "cost_centre": particulars.cost_centre,
            "debit_account": particulars.debit_account,
            "credit_account": particulars.credit_account,
        },
        "team": {"id": draft.team.pk, "name": draft.team.name} if draft.team else None,
        "by_team": draft.by_team,
        "month": f"{period.month:%Y-%m}",
        "period": {
            "starts_at": plain(closing.starts_at),
            "ends_at": plain(closing.ends_at),
            "zone": closing.zone,
        },
        "currency": draft.currency,
        "exchange_rate": {
            "rate": plain(draft.rate.rate),
            "valid_from": plain(draft.rate.valid_from),
            "source": draft.rate.source,
        }
        if draft.rate
        else None,
        "price_book": drafts.price_book(period),
        "covers": [
            {name: plain(getattr(each, name)) for name in ("starts_at", "ends_at", "from_xid", "below_xid")}
            for each in covered
        ],
        "calls": sums.calls,
        "adjustments": sums.adjustments,
        "total": plain(draft.total),
        "total_usd": plain(sums.owed),
        "held": {
            "calls": held.calls,
            "ceiling_usd": plain(held.ceiling),
            "listed": [{name: plain(value) for name, value in each.items()} for each in held.listed],
        }
        if held
        else None,
        "closed_by": closing.closed_by,
        "confirmed_by": closing.confirmed_by,
        "corrects": None,
        "reason": "",
    }


def issue(
    statement: Statement, draft: Draft, content: dict[str, Any], issuer: Issuer, at: datetime, make_files: MakeFiles
) -> Statement:
    """Give a document its number, its place in the issuer's chain and its hash, and save it. The issuer is locked."""
    if statement.kind == Kind.STATEMENT:
        number = f"{issuer.prefix}-{issuer.next_number:05}"
        issuer.next_number += 1
    else:
        number = f"{issuer.prefix}-{CREDIT}-{issuer.next_credit_number:05}"
        issuer.next_credit_number += 1
    last = Statement.objects.filter(issuer=issuer).order_by("-sequence").first()
    statement.number, statement.issuer, statement.issued_at = number, issuer, at
    statement.sequence = last.sequence + 1 if last else 1
    statement.previous_hash = last.hash if last else ""
    statement.customer, statement.team, statement.by_team = draft.period.customer, draft.team, draft.by_team
    statement.month, statement.currency = draft.period.month, draft.currency
    content |= {
        "kind": statement.kind,
        "number": number,
        "sequence": statement.sequence,
        "issuer": {name: getattr(issuer, name) for name in ("id", "name", "address", "prefix")},
        "issued_at": plain(at),
        "previous": statement.previous_hash,
    }
    rows = [
        StatementLine(position=position, **{name: getattr(line, name) for name in line.__slots__})
        for position, line in enumerate(draft.lines, 1)
    ]
    document = documents.encode(content, rows)
    statement.content = documents.canonical(content).decode()
    statement.hash = documents.digest(document)
    statement.save(force_insert=True)
    for row in rows:
        row.statement = statement
    StatementLine.objects.bulk_create(rows, batch_size=1000)
    issuer.save(update_fields=["next_number", "next_credit_number"])
    StatementFile.objects.bulk_create(
        StatementFile(statement=statement, name=name, content=made, sha256=documents.digest(made))
        for name, made in make_files(statement, document).items()
    )
    return statement
