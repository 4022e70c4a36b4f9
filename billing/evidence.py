"""The evidence pack of a document, for auditors: the document, its files, the rows behind it, the prices that were in
force, what providers report, the audit log's events about it, and the result of its verification."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import IO, Any

from django.db import connection

from billing import archives, covers, documents, reconciled, verification
from billing.formats import MADE
from billing.models import Closing, Issuer, Particulars, Statement
from keys.audit.models import AuditEvent
from keys.audit.words import Words
from keys.csv_lines import BYTE_ORDER_MARK, csv_line
from usage import moments
from usage.models import ExchangeRate, Price
from usage.request_ids import request_id

# A pack below this size stays in memory.
IN_MEMORY = 8 * 2**20
PAGE = 5_000
CALLS = (
    "request_id",
    "admitted_at",
    "customer_id",
    "team_id",
    "virtual_key_id",
    "model",
    "cost",
    "owed",
    "transaction",
)
ADJUSTMENTS = ("id", "request_id", "created_at", "reason", "author", "detail", "cost", "owed", "transaction")
README = """Evidence for {number}
{line}
Made {now}. Times are in UTC, amounts in USD unless a column says otherwise.

{number}.json      the document in canonical form; its SHA-256 is {hash}
{number}.pdf, .csv, .xlsx, .journal.csv, .focus.csv: its other forms
calls.csv          the ledger rows that it covers: {calls:,}
adjustments.csv    the adjustments that it covers: {adjustments:,}
prices.csv         the own prices in force within its period, and exchange_rates.csv the rates of its currency.
                   List prices: {prices}
reconciliation.csv {reconciled}
audit.csv          the audit log's events about its closing, its issuer and the customer's billing particulars
verification.txt   what verify_statement said when this pack was made
manifest.txt       the SHA-256 of each file

The sum of calls.csv and adjustments.csv, column owed: {owed} USD. The document says {said} USD.
"""
RECONCILED = """what providers report for the provider keys that answered these calls, beside the ledger, by day
                   (UTC): both sides in USD, and what the difference is due to. A provider reports by key: where other
                   customers used it, too (used_by), both sides have all of their calls"""
NOT_RECONCILED = "(missing: the reader of this pack may not see what providers report)"


class Pack:
    """A zip that is being written, with the digest of each file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
        self.digests: dict[str, str] = {}

    def add(self, name: str, parts: Iterable[bytes]) -> None:
        """Add a file."""
        digest = hashlib.sha256()
        with self.zip.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
            for part in parts:
                digest.update(part)
                member.write(part)
        self.digests[name] = digest.hexdigest()

    def end(self) -> None:
        """Add the manifest."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.digests.items()))
        self.zip.writestr("manifest.txt", lines)
        self.zip.close()


def make(statement: Statement, *, names: bool, compared: bool = True) -> IO[bytes]:
    """The pack, as a file that is read from its beginning.

    Args:
        names: with the names of the people in the audit log.
        compared: with what providers report.

    Raises:
        Unusable: a file of an archived month is missing.
    """
    file: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (its reader closes it)
    pack = Pack(file)
    with ExitStack() as failed:
        failed.callback(file.close)
        failed.callback(pack.zip.close)
        fill(pack, statement, names, compared)
        failed.pop_all()
    pack.end()
    file.seek(0)
    return file


def fill(pack: Pack, statement: Statement, names: bool, compared: bool) -> None:
    """Add all files to a pack."""
    said = documents.said(statement)
    covered = covers.stored(statement.closing, statement.credit, statement.by_team, statement.team_id)
    found = covers.total(covered)
    for name, (_, made) in MADE.items():
        pack.add(f"{statement.number}.{name}", [made(statement)])
    for each in statement.files.order_by("name"):
        pack.add(each.name, [bytes(each.content)])
    with archives.with_archives(covered) as behind:
        pack.add("calls.csv", table(CALLS, calls(behind)))
        pack.add("adjustments.csv", table(ADJUSTMENTS, adjustments(behind)))
    prices = Price.objects.filter(pk__in=said["price_book"]["own_prices"]).order_by("pk")
    pack.add("prices.csv", rows_of(Price, prices.values_list()))
    rates = ExchangeRate.objects.filter(currency=statement.currency).order_by("valid_from")
    pack.add("exchange_rates.csv", rows_of(ExchangeRate, rates.values_list()))
    if compared:
        pack.add("reconciliation.csv", table(reconciled.COLUMNS, reconciled.rows(statement)))
    pack.add("audit.csv", table(("at", "who", "what"), events(statement, names)))
    faults = verification.verify(statement)
    pack.add("verification.txt", ["\n".join(faults or [f"{statement.number} is as it was issued."]).encode() + b"\n"])
    text = README.format(
        number=statement.number,
        line="=" * (13 + len(statement.number)),
        now=moments.show(moments.now())[:19],
        hash=statement.hash,
        calls=found.calls,
        adjustments=found.adjustments,
        prices=said["price_book"]["list_prices"],
        reconciled=RECONCILED if compared else NOT_RECONCILED,
        owed=documents.plain(found.owed),
        said=said["total_usd"],
    )
    pack.add("README.txt", [text.encode()])


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[bytes]:
    """A CSV file, a line at a time."""
    yield (BYTE_ORDER_MARK + csv_line(columns)).encode()
    for row in rows:
        yield csv_line(row).encode()


def rows_of(model: Any, rows: Iterable[Iterable[Any]]) -> Iterator[bytes]:
    """Rows of a table."""
    yield from table([each.attname for each in model._meta.concrete_fields], rows)


def calls(covered: Iterable[covers.Covered]) -> Iterator[list[Any]]:
    """The covered ledger rows, by id; read in pages, each by a short query."""
    columns = (
        "e.id, e.admitted_at, e.customer_id, e.team_id, e.virtual_key_id, e.model, e.cost, coalesce(e.charge, e.cost), "
        "e.xid::text"
    )
    for each in covered:
        yield from (
            [request_id(row[0]), moments.show(row[1]), *row[2:]] for row in paged(each, columns, each.entries(), "e.id")
        )


def adjustments(covered: Iterable[covers.Covered]) -> Iterator[list[Any]]:
    """The covered adjustments, by id."""
    columns = (
        "a.id, a.entry_id, a.created_at, a.reason, a.author, a.detail::text, a.cost, coalesce(a.charge, a.cost), "
        "a.xid::text"
    )
    for each in covered:
        yield from (
            [row[0], request_id(row[1]), moments.show(row[2]), *row[3:]]
            for row in paged(each, columns, each.adjustments(), "a.id")
        )


def paged(covered: covers.Covered, columns: str, source: str, key: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a query in the order of a key."""
    last: Any = ""
    given = covered.parameters()
    while True:
        after = f" AND {key} > %(after)s" if last else ""
        query = f"SELECT {columns} FROM {source}{after} ORDER BY {key} LIMIT {PAGE}"  # noqa: S608 - constants
        with connection.cursor() as cursor:
            cursor.execute(query, given | {"after": last})
            page = cursor.fetchall()
        yield from page
        if len(page) < PAGE:
            return
        last = page[-1][0]


def events(statement: Statement, names: bool) -> Iterator[list[Any]]:
    """What the audit log has about a document, in words."""
    about = f"keys_customer:{statement.customer_id}"
    found = [
        *AuditEvent.objects.filter(table_name=Closing._meta.db_table, object=str(statement.closing_id)),
        *AuditEvent.objects.filter(table_name=Issuer._meta.db_table, object=str(statement.issuer_id)),
        *AuditEvent.objects.filter(table_name=Particulars._meta.db_table, about=about),
    ]
    words = Words(found)
    for event in sorted(found, key=lambda each: each.pk):
        yield [moments.show(event.at), words.who(event) if names else event.actor_kind, words.what(event)]
