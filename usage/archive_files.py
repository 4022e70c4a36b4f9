"""The files of an archived month: its ledger rows and their adjustments as gzipped CSV, and a manifest.

Two exports of the same rows are the same bytes. Rows are read in parts by id, each in a short transaction, which gives
the same as one snapshot: rows below the horizon of a checkpoint don't change.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from django.db import connection, transaction
from psycopg import sql

from keys.errors import Unusable
from usage.tokens import TOKEN_COLUMNS
from usage.verification import TOKENS

PART = 20_000
LEVEL = 6
FORMAT = "bursar ledger month 1"
PRECISION = 60
# A CSV field of a row with many attempts.
LONGEST_FIELD = 2**27
COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
# How a session writes values must not depend on its settings.
PLAIN = """
SELECT set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO, YMD', true),
    set_config('extra_float_digits', '1', true)
"""
# What is summed, beside the number of rows.
SUMMED = ("cost", "owed", *TOKEN_COLUMNS)
SUMS = ", ".join(
    (
        "count(*)",
        "coalesce(sum(cost), 0)",
        "coalesce(sum(coalesce(charge, cost)), 0)",
        *(f"coalesce(sum({name}), 0)" for name in TOKEN_COLUMNS),
    )
)
CHARGES = """
SELECT c.budget, c.start, sum(c.amount) FROM {table} e, unnest(e.charges) AS c
WHERE e.id > %(after)s AND e.id <= %(last)s GROUP BY c.budget, c.start
"""
ADJUSTED = f"""
SELECT c.budget, c.start, sum(c.amount) FROM usage_adjustment a JOIN {{table}} e ON e.id = a.entry_id,
    unnest(usage_spent(e.charges, usage_owed(a.charge, a.cost), {TOKENS})) AS c
WHERE a.entry_id > %(after)s AND a.entry_id <= %(last)s GROUP BY c.budget, c.start
"""  # noqa: S608 - constants
NEXT_PART = """
SELECT coalesce(
    (SELECT id FROM {table} WHERE id > %(after)s ORDER BY id OFFSET {before} LIMIT 1),
    (SELECT id FROM {table} WHERE id > %(after)s ORDER BY id DESC LIMIT 1))
"""
BEFORE_ALL = UUID(int=0)
Window = tuple[int, datetime]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files of a month are."""

    folder: Path
    month: date

    @property
    def rows(self) -> Path:
        return self.folder / f"ledger-{self.month:%Y-%m}.csv.gz"

    @property
    def adjustments(self) -> Path:
        return self.folder / f"ledger-{self.month:%Y-%m}.adjustments.csv.gz"

    @property
    def manifest(self) -> Path:
        return self.folder / f"ledger-{self.month:%Y-%m}.json"


@dataclass(slots=True)
class Tally:
    """Sums of rows: how many, and each of `SUMMED`."""

    rows: int
    sums: dict[str, Decimal]

    @classmethod
    def empty(cls) -> Tally:
        """Of no row."""
        return cls(0, dict.fromkeys(SUMMED, Decimal(0)))

    def add(self, rows: int, *sums: Decimal) -> None:
        """Add sums in the order of `SUMMED`."""
        self.rows += rows
        with localcontext(prec=PRECISION):
            for name, amount in zip(SUMMED, sums, strict=True):
                self.sums[name] += amount

    def said(self) -> dict[str, Any]:
        """As the manifest has it."""
        with localcontext(prec=PRECISION):
            return {"rows": self.rows, "sums": {name: f"{amount.normalize():f}" for name, amount in self.sums.items()}}


@dataclass(slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        charges: what rows and adjustments have spent, by budget window.
        first, last: the admissions of the first and the last row; None: there are no rows.
    """

    manifest: dict[str, Any]
    charges: dict[Window, Decimal]
    first: datetime | None
    last: datetime | None


def export(place: Place, table: str, first_id: UUID, end_id: UUID) -> Exported:
    """Write the files of a month, and read them back.

    Args:
        table: its partition, quoted.

    Raises:
        Unusable: a file can't be written, or isn't what the table has.
    """
    try:
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        charges: defaultdict[Window, Decimal] = defaultdict(Decimal)
        names, rows = columns(table), Tally.empty()
        with writing(place.rows, names) as file:
            for after, last in parts(table):
                given = {"after": after, "last": last}
                where = sql.SQL("id > {} AND id <= {}").format(sql.Literal(after), sql.Literal(last))
                copy(file, table, names, where, rows)
                for query in (CHARGES, ADJUSTED):
                    for budget, start, amount in fetch(query.format(table=table), given):
                        if amount:
                            charges[budget, start] += amount
        of_adjustments, adjustments = columns("usage_adjustment"), Tally.empty()
        with writing(place.adjustments, of_adjustments) as file:
            where = sql.SQL("entry_id >= {} AND entry_id < {}").format(sql.Literal(first_id), sql.Literal(end_id))
            copy(file, "usage_adjustment", of_adjustments, where, adjustments)
        manifest = {
            "format": FORMAT,
            "month": f"{place.month:%Y-%m}",
            "charges": digest_of(charges),
            "files": {
                place.rows.name: rows.said() | {"columns": names, "sha256": sha256(place.rows)},
                place.adjustments.name: adjustments.said()
                | {"columns": of_adjustments, "sha256": sha256(place.adjustments)},
            },
        }
        check(place, manifest)
        with whole_file(place.manifest) as file:
            file.write(json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n")
    except OSError as error:
        raise Unusable(f"{place.folder} can't be written: {error.strerror}") from None
    first, last = fetch(f"SELECT min(admitted_at), max(admitted_at) FROM {table}")[0]  # noqa: S608 - quoted
    return Exported(manifest, dict(charges), first, last)


def check(place: Place, manifest: dict[str, Any]) -> None:
    """Read files back, and compare them with their manifest.

    Raises:
        Unusable: a file is missing or damaged.
    """
    for path in (place.rows, place.adjustments):
        said = manifest["files"][path.name]
        try:
            found = tally(path)
            same = sha256(path) == said["sha256"]
        except (OSError, EOFError, csv.Error, KeyError, ArithmeticError, UnicodeDecodeError):
            raise Unusable(f"{path} can't be read: it is missing or damaged") from None
        if not same or found.said() != {name: said[name] for name in ("rows", "sums")}:
            raise Unusable(f"{path} isn't what its manifest says: {said['rows']:,} rows, SHA-256 {said['sha256']}")


def tally(path: Path) -> Tally:
    """What a file's rows add up to."""
    found = Tally.empty()
    for row in records(path):
        cost = Decimal(row["cost"])
        found.add(1, cost, Decimal(row["charge"]) if row["charge"] else cost, *(Decimal(row[n]) for n in TOKEN_COLUMNS))
    return found


def records(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a file by the names of its columns. What the table has as NULL is an empty text."""
    csv.field_size_limit(LONGEST_FIELD)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def lines(path: Path, most: int) -> Iterator[bytes]:
    """The rows of a file as its CSV has them, without the header, a number of rows at a time."""
    with gzip.open(path, "rb") as file:
        file.readline()
        found, quotes, count = list[bytes](), 0, 0
        for line in file:
            found.append(line)
            quotes += line.count(b'"')
            count += quotes % 2 == 0  # a line break within quotes belongs to a value
            if count == most:
                yield b"".join(found)
                found, quotes, count = [], 0, 0
        if found:
            yield b"".join(found)


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest.

    Raises:
        Unusable: the file isn't one.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise Unusable(f"{path} is not the manifest of an archived month, such as ledger-2026-08.json")
    return found


def parts(table: str) -> Iterator[tuple[UUID, UUID]]:
    """A table in parts: the id before each, and its last one."""
    query = NEXT_PART.format(table=table, before=PART - 1)
    after = BEFORE_ALL
    while (last := fetch(query, {"after": after})[0][0]) is not None:
        yield after, last
        after = last


def copy(file: gzip.GzipFile, table: str, names: list[str], where: sql.Composable, total: Tally) -> None:
    """Write rows as CSV in the order of their ids, and add up what the database says that they are."""
    query = sql.SQL("COPY (SELECT {names} FROM {table} WHERE {where} ORDER BY id) TO STDOUT (FORMAT csv)").format(
        names=sql.SQL(", ").join(map(sql.Identifier, names)), table=sql.SQL(table), where=where
    )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(PLAIN)
        with cursor.copy(query) as copied:
            for data in copied:
                file.write(data)
        cursor.execute(sql.SQL("SELECT {} FROM {} WHERE {}").format(sql.SQL(SUMS), sql.SQL(table), where))
        total.add(*cursor.fetchone())


@contextmanager
def writing(path: Path, names: Iterable[str]) -> Iterator[gzip.GzipFile]:
    """A gzipped CSV file with a header, which is there when it is whole."""
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(names)
    with whole_file(path) as raw, gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as file:
        file.write(header.getvalue().encode())
        yield file


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there when it is whole and on disk."""
    partial = path.with_name(path.name + ".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(charges: dict[Window, Decimal]) -> str:
    """The SHA-256 of what budget windows spent in a month."""
    found = hashlib.sha256()
    for (budget, start), amount in sorted(charges.items()):
        found.update(f"{budget} {start.timestamp():.6f} {amount:.12f}\n".encode())
    return found.hexdigest()


def columns(table: str) -> list[str]:
    """The columns of a table."""
    return [name for (name,) in fetch(COLUMNS, [table])]


def fetch(query: str, values: Any = None) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
