"""Checkpoints: from which the verifier starts, so that it needn't read the whole ledger, nor months that are archived.

A checkpoint is made only where every counter was right. It has what each budget window had spent by all transactions
below its own, which have ended: rows and adjustments that are written later, also those of earlier calls, come after
it. It stores the windows that changed since the checkpoint before, so a window's value is its latest one in the chain.
The first one of a chain stores all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from django.db import connection, transaction
from django.db.models import Max

from usage import moments
from usage.checkpoint_tables import Checkpoint, CheckpointWindow

Key = tuple[int, datetime]
LOCK = "SELECT pg_advisory_xact_lock(hashtext('usage_checkpoint'))"
CHUNK = 5_000

# The latest value of each window in a chain, for windows `w` of a query.
LATEST = """
LEFT JOIN LATERAL (
    SELECT c.spent, c.held FROM usage_checkpointwindow c
    WHERE c.budget = {budget} AND c.start = {start} AND c.checkpoint >= %(first)s AND c.checkpoint <= %(last)s
    ORDER BY c.checkpoint DESC LIMIT 1
) AS base ON true
"""
# What windows that are gone had spent.
GONE = """
SELECT DISTINCT ON (c.budget, c.start) c.budget, c.start, c.spent FROM usage_checkpointwindow c
WHERE c.checkpoint >= %(first)s AND c.checkpoint <= %(last)s
    AND NOT EXISTS (SELECT FROM usage_window w WHERE w.budget_id = c.budget AND w.start = c.start)
ORDER BY c.budget, c.start, c.checkpoint DESC
"""


@dataclass(frozen=True, slots=True)
class Amount:
    """What a window has spent and what is held in it."""

    spent: Decimal
    held: Decimal


@dataclass(frozen=True, slots=True)
class Base:
    """Where a verification starts: after a checkpoint, or at the ledger's beginning.

    Attributes:
        first, last: the ids of the first checkpoint of the chain and of the last one; 0: the chain is empty.
        below_xid: the transactions below it are summed already.
        faults: what is wrong with the chain.
    """

    first: int = 0
    last: int = 0
    below_xid: str = "0"
    previous_hash: str = ""
    faults: tuple[str, ...] = ()


BEGINNING = Base()


def base(horizon: str) -> Base:
    """The last checkpoint, if the chain is as it was written; else the beginning, with what is wrong.

    Args:
        horizon: the lowest id of running transactions. A checkpoint beyond it is of another server.
    """
    first = Checkpoint.objects.filter(previous_hash="").aggregate(last=Max("pk"))["last"]
    chain = Checkpoint.objects.filter(pk__gte=first).order_by("pk") if first else Checkpoint.objects.none()
    found, previous = BEGINNING, ""
    for each in chain:
        fault = wrong(each, previous)
        if fault is None and int(each.below_xid) > int(horizon):
            fault = "its transactions are later than those of this server: was a dump restored?"
        if fault is not None:
            return Base(faults=(f"{each}: {fault}",))
        found, previous = Base(first, each.pk, each.below_xid, each.hash), each.hash
    return found


def wrong(checkpoint: Checkpoint, previous: str) -> str | None:
    """What is wrong with a checkpoint; None: nothing is.

    Args:
        previous: the hash of the one before.
    """
    if checkpoint.previous_hash != previous:
        return "it isn't chained to the checkpoint before"
    windows = CheckpointWindow.objects.filter(checkpoint=checkpoint.pk).order_by("budget", "start")
    rows = windows.values_list("budget", "start", "spent", "held").iterator(chunk_size=CHUNK)
    if digest(previous, checkpoint.below_xid, checkpoint.made_at, rows) != checkpoint.hash:
        return "its hash is not that of what it says"
    return None


def digest(
    previous: str, below_xid: str, made_at: datetime, windows: Iterable[tuple[int, datetime, Decimal, Decimal]]
) -> str:
    """The hash of a checkpoint.

    Args:
        windows: budget, start, spent and held of each, in this order.
    """
    found = hashlib.sha256(f"{previous}\n{below_xid}\n{moments.show(made_at)}\n".encode())
    for budget, start, spent, held in windows:
        found.update(f"{budget} {moments.show(start)} {spent:.12f} {held:.12f}\n".encode())
    return found.hexdigest()


def make(after: Base, below_xid: str, windows: Mapping[Key, Amount]) -> Checkpoint | None:
    """Make a checkpoint of a verification that found no difference.

    Args:
        after: where the verification started.
        below_xid: the transactions below it are verified.
        windows: those that changed since; all of them where it started at the beginning.

    Returns:
        The checkpoint; None: another process has made one meanwhile.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(LOCK)
        last = Checkpoint.objects.order_by("-pk").first()
        if last is not None and (int(last.below_xid) > int(below_xid) or (after.last and last.pk != after.last)):
            return None
        made_at = datetime.now(UTC)
        ordered = list(_ordered(windows))
        made = Checkpoint.objects.create(
            made_at=made_at,
            below_xid=below_xid,
            windows=len(ordered),
            previous_hash=after.previous_hash,
            hash=digest(after.previous_hash, below_xid, made_at, ordered),
        )
        CheckpointWindow.objects.bulk_create(
            (
                CheckpointWindow(budget=budget, start=start, checkpoint=made.pk, spent=spent, held=held)
                for budget, start, spent, held in ordered
            ),
            batch_size=CHUNK,
        )
    return made


def _ordered(windows: Mapping[Key, Amount]) -> Iterator[tuple[int, datetime, Decimal, Decimal]]:
    for (budget, start), amount in sorted(windows.items()):
        yield budget, start, amount.spent, amount.held


def latest() -> Checkpoint | None:
    """The latest checkpoint."""
    return Checkpoint.objects.order_by("-pk").first()
