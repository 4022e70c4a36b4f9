"""Archives months by policy: those older than `LEDGER_MONTHS`, and their tables after `ARCHIVE_KEPT_DAYS`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from django.conf import settings

from keys.errors import Unusable
from usage import archived, archiving, moments
from usage.archive_files import fetch
from usage.archived import State

AUTHOR = "LEDGER_MONTHS"
PARTITIONS = """
SELECT to_date(right(c.relname, 6), 'YYYYMM') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'usage_ledgerentry'::regclass AND c.relname ~ '^usage_ledgerentry_[0-9]{6}$' ORDER BY 1
"""


def run() -> Iterator[str]:
    """Do what is due; each line says what was done, or why not. The oldest month comes first, and one that can't be
    archived stops the others."""
    if (months := settings.CONFIGURATION.ledger_months) is None:
        return
    for row in archived.months():
        kept = timedelta(days=settings.CONFIGURATION.archive_kept_days)
        if row.state == State.DETACHED and moments.now() - row.archived_at >= kept:
            try:
                dropped = archiving.archive(row.month, by=AUTHOR, folder=Path(row.folder), drop=True).dropped
            except Unusable as error:
                yield f"the table of {row} stays: {error}"
            else:
                yield from [f"the table of {row} is deleted"] if dropped else []
    for month in due(moments.now().date(), months):
        try:
            done = archiving.archive(month, by=AUTHOR, folder=Path(archived.folder()))
        except Unusable as error:
            yield str(error)
            return
        yield f"{done.row} is archived in {done.row.folder}"


def due(today: date, months: int) -> list[date]:
    """The months in the ledger that are older than this number of whole months."""
    first = today.year * 12 + today.month - 1 - months
    oldest = date(first // 12, first % 12 + 1, 1)
    return [month for (month,) in fetch(PARTITIONS) if month < oldest]
