"""Which months of the ledger are archived, for everything that reads or changes recorded calls.

A month is UTC's, by the ids of its calls. The clock of a process and that of the database differ a little, so a row at
the edge of a month can have been admitted a moment outside of it: `since` and `until` are what the rows have.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.db import connection, models

from keys.errors import Unusable

# One archive, return or erasure at a time.
LOCK = "SELECT pg_advisory_lock(hashtext('usage_archive'))"
UNLOCK = "SELECT pg_advisory_unlock(hashtext('usage_archive'))"
HOW = "manage.py restore_month puts a month back"


class State(models.TextChoices):
    """How far the archiving of a month is. Until it is detached, its rows are in the ledger."""

    EXPORTED = "exported"
    DETACHED = "detached", "detached, and kept as a table"
    DROPPED = "dropped"


class ArchivedMonth(models.Model):
    """A month that is archived, or that is being archived."""

    month = models.DateField(primary_key=True, help_text="its first day")
    state = models.CharField(max_length=20, choices=State)
    first_id = models.UUIDField()
    end_id = models.UUIDField()
    since = models.DateTimeField(help_text="the admission of its first row, or its beginning if that is earlier")
    until = models.DateTimeField(help_text="after the admission of its last row, or its end if that is later")
    below_xid = models.TextField(help_text="of the checkpoint that it is behind")
    folder = models.TextField()
    manifest = models.JSONField()
    archived_at = models.DateTimeField()
    archived_by = models.CharField(max_length=200)

    class Meta:
        default_permissions: ClassVar = ()
        ordering: ClassVar = ["month"]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"

    @property
    def file(self) -> str:
        """The name of the file with its ledger rows."""
        return f"ledger-{self.month:%Y-%m}.csv.gz"


class ArchivedCharge(models.Model):
    """What the rows of an archived month and their adjustments have spent in a budget window."""

    pk = models.CompositePrimaryKey("month", "budget", "start")
    month = models.DateField()
    budget = models.BigIntegerField()
    start = models.DateTimeField()
    amount = models.DecimalField(max_digits=38, decimal_places=12)

    class Meta:
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return f"budget {self.budget} from {self.start}"


def months() -> list[ArchivedMonth]:
    """The archived months, oldest first."""
    return list(ArchivedMonth.objects.exclude(state=State.EXPORTED))


def overlapping(since: datetime | None, until: datetime | None) -> list[ArchivedMonth]:
    """The archived months with calls from `since` until before `until`; None: without an end there."""
    return [
        each for each in months() if (since is None or since < each.until) and (until is None or each.since < until)
    ]


def of_call(call: UUID) -> ArchivedMonth | None:
    """The archived month of a call, by its id."""
    return next((each for each in months() if each.first_id <= call < each.end_id), None)


def until() -> datetime | None:
    """When the last archived month ended; None: none is archived."""
    return max((each.until for each in months()), default=None)


def has_day(day: date) -> bool:
    """Whether calls of a day (UTC) are archived."""
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return bool(overlapping(since, since + timedelta(days=1)))


def refuse(since: datetime | None, until: datetime | None, what: str) -> None:
    """Refuse to work on recorded calls of a time.

    Raises:
        Unusable: some of them are archived; `what` says what can't be done.
    """
    if found := overlapping(since, until):
        raise Unusable(f"{what}: {in_words(found)}. Choose a later beginning, or put the month back: {HOW}")


def in_words(found: list[ArchivedMonth]) -> str:
    """Which months are archived, and where."""
    named = ", ".join(map(str, found))
    places = ", ".join(sorted({each.folder for each in found}))
    return f"{named} {'is' if len(found) == 1 else 'are'} archived in {places}"


def folder() -> str:
    """Where archives are written, unless a command names another folder."""
    return str(settings.ARCHIVE_DIR)


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process archives, puts back, erases, or sums everything."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(UNLOCK)


def keep_attached() -> None:
    """Keep every month in the ledger until the transaction ends, so that what this module says stays true."""
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE ONLY usage_ledgerentry IN ACCESS SHARE MODE")
