"""Fills a deployment with demo data, in short transactions: the mark and the cast, each part of the calls, what follows
from them, and roll-ups. A run that was cut off goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from keys.audit.notes import note
from keys.demo_data import DemoData
from keys.errors import Unusable
from keys.models import Gateway, ProviderKey, VirtualKey
from keys.names import PASSTHROUGH
from usage import closed, rollups
from usage.demo import calendar, calls, cast, finish
from usage.demo.options import Options
from usage.models import Adjustment, Hold, LedgerEntry, Refusal

# Parts between two times of rolling up.
BETWEEN_ROLLUPS = 10
LOCK = "hashtext('usage_generate_demo_data')"

Say = Callable[[int, int], None]


def generate(options: Options, say: Say) -> int:
    """Make the data, or what an earlier run with the same options has not made. Returns the number of new rows.

    Args:
        say: is called after each part with the rows made in this run, and the number of rows that are missing.

    Raises:
        Unusable: there is real data, or other demo data.
    """
    options.check()
    with _alone():
        mark, made = begin(options)
        with transaction.atomic():
            parts = calendar.make(mark, options, made)
        trouble = options.since + (options.until - options.since) * calls.TROUBLE
        added, whole = 0, _rows_from(mark.parts)
        for part in range(mark.parts, parts):
            with transaction.atomic():
                added += calls.add(part, options.seed, trouble)
                DemoData.objects.update(parts=part + 1)
            if part % BETWEEN_ROLLUPS == BETWEEN_ROLLUPS - 1:
                rollups.roll_up()
            say(added, whole - added)
        rollups.roll_up()
        with transaction.atomic():
            finish.finish(mark, options, made)
            DemoData.objects.update(finished_at=timezone.now())
    return added


def begin(options: Options) -> tuple[DemoData, cast.Cast]:
    """Mark the deployment and add the cast, or find both as an earlier run has left them.

    Raises:
        Unusable: there is real data, or other demo data.
    """
    with transaction.atomic():
        # Every change of a provider key locks this row too, so that no secret comes in meanwhile.
        Gateway.objects.select_for_update().first()
        mark = DemoData.objects.first()
        if mark is not None:
            check_unfinished(mark, options)
            return mark, cast.make(options, mark.options["first"])
        check_empty()
        firsts = cast.first_ids()
        made = cast.make(options, firsts)
        _check_names(made)
        mark = DemoData.objects.create(options=options.as_json() | {"first": firsts})
        note("generated demo data", DemoData._meta.db_table, "1", rows=options.rows)
        _make_partitions(options.since, options.until)
        made.save()
        return mark, made


def check_unfinished(mark: DemoData, options: Options) -> None:
    """Refuse other demo data than what an unfinished run began.

    Raises:
        Unusable: the run has finished, or had other options.
    """
    before = Options.of(mark.options)
    if mark.finished_at is not None:
        raise Unusable(
            f"this deployment has its demo data already ({before.rows:,} rows, made on {mark.finished_at:%Y-%m-%d}): "
            "for other data, use a new database"
        )
    if before != options:
        given = " ".join(f"--{name} {value}" for name, value in before.as_json().items())
        raise Unusable(f"a run that isn't finished had other options: repeat it with {given}, or without any options")


def check_empty() -> None:
    """Refuse a deployment that has any real data. There is no way around it.

    Raises:
        Unusable: it has; the message says what.
    """
    found = (
        ("ledger rows", LedgerEntry.objects.all()),
        ("adjustments", Adjustment.objects.all()),
        ("calls under way", Hold.objects.all()),
        ("refused calls", Refusal.objects.all()),
        ("a provider's secret", ProviderKey.objects.exclude(secret_ciphertext=b"")),
        # A model of an app that this one may not import.
        ("a provider's admin key", apps.get_model("reconciliation", "AdminKey")._default_manager.all()),
        ("a key for providers' own keys", VirtualKey.objects.filter(passthrough=True, name=PASSTHROUGH)),
    )
    real = [what for what, rows in found if rows.exists()]
    if closed.until():
        real.append("closed months")
    if settings.CONFIGURATION.passthrough_customer:
        real.append("PASSTHROUGH_CUSTOMER")
    if real:
        raise Unusable(
            f"this deployment has {', '.join(real)}: demo data and real data are never in one deployment, so use a new "
            "database"
        )


def _check_names(made: cast.Cast) -> None:
    for rows in (made.customers, made.provider_keys):
        names = [row.name for row in rows]
        taken = type(rows[0])._default_manager.filter(name__in=names).values_list("name", flat=True).first()
        if taken is not None:
            raise Unusable(f"“{taken}” exists already: demo data needs this name, so rename it, or use a new database")


def _make_partitions(since: datetime, until: datetime) -> None:
    month = since.year * 12 + since.month - 2
    with connection.cursor() as cursor:
        cursor.execute("SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'usage_ledgerentry'::regclass")
        (place,) = cursor.fetchone()
        while month <= until.year * 12 + until.month:
            start, end = (datetime(m // 12, m % 12 + 1, 1, tzinfo=until.tzinfo) for m in (month, month + 1))
            name = f"{place}.usage_ledgerentry_{start:%Y%m}"
            cursor.execute("SELECT to_regclass(%s) IS NULL", [name])
            if cursor.fetchone()[0]:
                cursor.execute(
                    "SELECT format('CREATE TABLE %%s PARTITION OF usage_ledgerentry FOR VALUES FROM (%%L) TO (%%L)', "
                    "%s::text, usage_first_id(%s), usage_first_id(%s))",
                    [name, start, end],
                )
                cursor.execute(cursor.fetchone()[0])
            month += 1


def _rows_from(part: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(sum(calls), 0)::bigint FROM demo_cell WHERE part >= %s", [part])
        number: int = cursor.fetchone()[0]
    return number


@contextmanager
def _alone() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_try_advisory_lock({LOCK})")
        if not cursor.fetchone()[0]:
            raise Unusable("another generate_usage is running: wait for it")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_advisory_unlock({LOCK})")


def unfinished() -> dict[str, Any] | None:
    """The options of an unfinished run, if there is one."""
    mark = DemoData.objects.filter(finished_at=None).first()
    return mark.options if mark is not None else None
