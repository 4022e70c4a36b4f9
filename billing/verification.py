"""Verifies issued documents: hashes, chains, numbers, sums, files, and the ledger rows that they cover."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal, localcontext

from billing import covers, documents
from billing.currencies import rounded
from billing.documents import plain
from billing.lines import PRECISION
from billing.models import Cover, Issuer, Kind, Statement


def verify(statement: Statement) -> list[str]:
    """What is wrong with a document, each a sentence; empty: nothing is.

    Everything is read again: the lines, the document before, the files, and the ledger.
    """
    with localcontext(prec=PRECISION):
        return [*_document(statement), *_chain(statement), *_lines(statement), *_files(statement), *_ledger(statement)]


def verify_issuer(issuer: Issuer) -> list[str]:
    """What is wrong with an issuer's numbers: a gap, a double, or one beyond the last document."""
    found = []
    rows = list(Statement.objects.filter(issuer=issuer).order_by("sequence").only("number", "sequence", "kind"))
    if [row.sequence for row in rows] != list(range(1, len(rows) + 1)):
        found.append(f"{issuer.prefix}: the places of its documents have a gap.")
    numbers = defaultdict(list)
    for row in rows:
        match = re.search(r"(\d+)\Z", row.number)
        numbers[row.kind].append(int(match[1]) if match else 0)
    for kind, after in ((Kind.STATEMENT, issuer.next_number), (Kind.CREDIT_NOTE, issuer.next_credit_number)):
        given = numbers[kind]
        if given and given != list(range(given[0], after)):
            found.append(f"{issuer.prefix}: the numbers of its {kind.label}s have a gap.")
    return found


def verify_covers() -> list[str]:
    """Covers of a customer that overlap, so that a row is on two documents."""
    found = []
    rows = defaultdict(list)
    for each in Cover.objects.select_related("closing__customer").order_by("pk"):
        rows[each.closing.customer].append(each)
    for customer, own in rows.items():
        for at, one in enumerate(own):
            for other in own[at + 1 :]:
                apart = one.ends_at <= other.starts_at or other.ends_at <= one.starts_at
                if not apart and int(one.from_xid) < int(other.below_xid) and int(other.from_xid) < int(one.below_xid):
                    found.append(f"{customer}: {one} and {other} cover the same rows.")
    return found


def _document(statement: Statement) -> Iterator[str]:
    if documents.digest(documents.stored(statement)) != statement.hash:
        yield "its hash is not that of its content and lines."
    said = documents.said(statement)
    columns = {
        "number": statement.number,
        "kind": statement.kind,
        "sequence": statement.sequence,
        "currency": statement.currency,
        "total": plain(statement.total),
        "total_usd": plain(statement.total_usd),
        "issued_at": plain(statement.issued_at),
        "previous": statement.previous_hash,
        "month": f"{statement.month:%Y-%m}",
        "by_team": statement.by_team,
        "corrects": statement.corrects.number if statement.corrects else None,
    }
    ids = {"issuer": statement.issuer_id, "customer": statement.customer_id, "team": statement.team_id}
    yield from (f"its {name} differs from its content." for name, value in columns.items() if said.get(name) != value)
    yield from (
        f"its {name} differs from its content." for name, pk in ids.items() if (said[name] or {}).get("id") != pk
    )
    period = {"starts_at": statement.closing.starts_at, "ends_at": statement.closing.ends_at}
    if any(said["period"][name] != plain(value) for name, value in period.items()):
        yield "its period differs from its closing."
    stored = Cover.objects.filter(closing=statement.closing_id, credit=statement.credit)
    names = ("starts_at", "ends_at", "from_xid", "below_xid")
    given = sorted(tuple(each[name] for name in names) for each in said["covers"])
    if given != sorted(tuple(plain(getattr(each, name)) for name in names) for each in stored):
        yield "what it covers differs from what its closing stored."


def _chain(statement: Statement) -> Iterator[str]:
    before = Statement.objects.filter(issuer=statement.issuer, sequence=statement.sequence - 1).first()
    if statement.previous_hash != (before.hash if before else ""):
        yield "it isn't chained to the issuer's document before."
    if before is None and statement.sequence != 1:
        yield "the issuer's document before is missing."


def _lines(statement: Statement) -> Iterator[str]:
    lines = list(statement.lines.order_by("position"))
    if [line.position for line in lines] != list(range(1, len(lines) + 1)):
        yield "lines are missing."
    net, amount = (sum((getattr(line, name) for line in lines), Decimal(0)) for name in ("net", "amount"))
    if net != statement.total_usd:
        yield f"its lines add up to {net} USD, and not to {plain(statement.total_usd)}."
    if amount != statement.total:
        yield f"its lines add up to {plain(amount)} {statement.currency}, and not to {plain(statement.total)}."
    rate = documents.said(statement)["exchange_rate"]
    factor = Decimal(rate["rate"]) if rate else Decimal(1)
    if rounded(statement.total_usd * factor, statement.currency) != statement.total:
        yield "its total isn't its USD at its exchange rate."
    if any(line.discount != line.list_amount - line.net for line in lines):
        yield "a line's discount isn't the difference of its amounts."


def _files(statement: Statement) -> Iterator[str]:
    for each in statement.files.all():
        if documents.digest(bytes(each.content)) != each.sha256:
            yield f"{each.name} isn't the file that was made when it was issued."


def _ledger(statement: Statement) -> Iterator[str]:
    covered = covers.stored(statement.closing, statement.credit, statement.by_team, statement.team_id)
    found, said = covers.total(covered), documents.said(statement)
    if (found.calls, found.adjustments) != (said["calls"], said["adjustments"]):
        yield (
            f"the ledger has {found.calls:,} calls and {found.adjustments:,} adjustments for it, and not "
            f"{said['calls']:,} and {said['adjustments']:,}."
        )
    if found.owed != statement.total_usd:
        yield f"the ledger has {plain(found.owed)} USD for it, and not {plain(statement.total_usd)}."
