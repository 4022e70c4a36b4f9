"""Seals the audit log: each seal is a SHA-256 over the seal before it and over all events since then.

A seal covers events by id, up to `last_event`. The table is locked for a moment while that id is read: no open
transaction can commit an event with a smaller id later. If there are many events, several seals are made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

from django.db import OperationalError, connection, transaction
from django.utils import timezone

from keys.audit import canonical, seal_file
from keys.audit.models import AuditEvent, AuditSeal

# Maximum number of events of one seal. All of them are in memory at once.
MOST = 10_000
# The digest before the first seal.
START = ""
# A transaction with a change may take longer than the first wait; other changes wait behind this one's.
LOCK_MILLISECONDS = 2000
ATTEMPTS = 10

ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('keys_auditseal'))"


class Unsealable(Exception):
    """A transaction that changes something stays open, so that its events can't be sealed yet."""


def seal() -> list[AuditSeal]:
    """Seal all events up to now, and append the seals to the file; the new seals.

    Raises:
        Unsealable: a transaction has been open for too long.
    """
    last = _settled()
    made = []
    while (new := _next(last)) is not None:
        made.append(new)
    seal_file.append(AuditSeal.objects.filter(number__gt=seal_file.last()))
    return made


def digest(before: str, number: int, made_at: datetime, last_event: int, leaves: Iterable[bytes]) -> str:
    """The digest of a seal in hexadecimal: over a line with its columns and the digest before it, then the leaves."""
    at = made_at.astimezone(UTC).isoformat(timespec="microseconds")
    hashed = hashlib.sha256(f"{before} {number} {at} {last_event}\n".encode())
    for leaf in leaves:
        hashed.update(leaf)
    return hashed.hexdigest()


def _settled() -> int:
    """The highest id of an event up to which all transactions have ended."""
    for _ in range(ATTEMPTS):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
                cursor.execute("LOCK TABLE keys_auditevent IN SHARE MODE")
                cursor.execute("SELECT coalesce(max(id), 0) FROM keys_auditevent")
                return int(cursor.fetchone()[0])
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") != "55P03":  # lock_not_available
                raise
    raise Unsealable("A transaction with changes is still open: try again when it has ended.")


def _next(last: int) -> AuditSeal | None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(ONE_AT_A_TIME)
        before = AuditSeal.objects.order_by("number").last()
        first = before.last_event if before else 0
        events = AuditEvent.objects.filter(id__gt=first, id__lte=last).order_by("id")
        rows = list(events.values_list(*canonical.COLUMNS)[:MOST])
        if not rows:
            return None
        leaves = [canonical.leaf(row) for row in rows]
        number, end, now = (before.number + 1 if before else 1), int(rows[-1][0]), timezone.now()
        made = digest(before.digest if before else START, number, now, end, leaves)
        return AuditSeal.objects.create(
            number=number, made_at=now, last_event=end, events=len(rows), leaves=b"".join(leaves), digest=made
        )
