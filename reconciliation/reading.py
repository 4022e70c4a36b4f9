"""Reads the reports of an admin key, hour by hour, and keeps each read."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Max, QuerySet
from django.utils import timezone

from reconciliation import finding, freshness, key_hints, pacing
from reconciliation.freshness import DAY, HOUR
from reconciliation.http import Reader, reading
from reconciliation.reads import CostRow, Read, Report, UsageRow
from reconciliation.reports.rows import Cost, Found, Used
from reconciliation.sources import AdminKey, Bill, Kind

# How far back a provider's reports go.
OLDEST = timedelta(days=364)
# Rows of an INSERT.
PART = 2_000

Rows = list[Used] | list[Cost]


@dataclass(slots=True)
class DayRead:
    """What reading a day gave.

    Attributes:
        periods: hours or days that were read; `changed`: those whose figures are new or revised.
        waiting: the provider hasn't refreshed its data for the rest yet.
    """

    day: date
    report: Report
    periods: int = 0
    changed: int = 0
    waiting: bool = False


@dataclass(slots=True)
class Run:
    """What a run does.

    Attributes:
        since: the first day; the last one is today.
        ends_at: by the monotonic clock; None: no end.
        tell: gets each day that was read.
        days: those that were read: they are to be compared again.
    """

    since: date
    ends_at: float | None = None
    tell: Callable[[DayRead], None] = lambda each: None
    days: set[date] = field(default_factory=set)

    @property
    def is_over(self) -> bool:
        """Whether its time is over."""
        return self.ends_at is not None and time.monotonic() >= self.ends_at


def read_due(admin_key: AdminKey, run: Run) -> None:
    """Read what is due, oldest day first.

    Raises:
        Trouble: the reports can't be read; what was read before is kept.
    """
    kind, note = finding.find(admin_key)
    AdminKey.objects.filter(pk=admin_key.pk).update(kind=kind, problem=note, checked_at=timezone.now())
    with reading(admin_key, finding.BASE_URLS[admin_key.provider]) as (reader, secret):
        keys = finding.keys_of(admin_key, reader, secret)
        if keys is None:
            note = "; ".join(filter(None, (note, finding.NO_LIST)))
            AdminKey.objects.filter(pk=admin_key.pk).update(problem=note[:300])
        key_hints.note(admin_key, keys or [])
        for report, day, periods in due(admin_key, kind, run.since):
            if run.is_over:
                return
            pacing.extend(admin_key)
            found = _ask(reader, secret, kind, report, periods)
            run.tell(keep_day(admin_key, report, day, periods, found, step(kind, report)))
            run.days.add(day)
    AdminKey.objects.filter(pk=admin_key.pk).update(read_at=timezone.now())


def _ask(reader: Reader, secret: str, kind: Kind, report: Report, periods: list[datetime]) -> Found:
    return finding.MODULES[kind].read(reader, secret, report, periods[0], periods[-1] + step(kind, report))


def step(kind: Kind, report: Report) -> timedelta:
    """How long a period of a report is."""
    return DAY if report == Report.COST and kind in finding.DAILY_COSTS else HOUR


def due(admin_key: AdminKey, kind: Kind, since: date) -> Iterator[tuple[Report, date, list[datetime]]]:
    """The days of which something is due, with the beginnings of the hours (or the day) that are."""
    now = timezone.now()
    day = max(since, (now - OLDEST).astimezone(UTC).date())
    while day <= now.astimezone(UTC).date():
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        for report in Report:
            long = step(kind, report)
            last = last_reads(admin_key, report, start, long)
            starts = [start + number * long for number in range(DAY // long)]
            wanted = [each for each in starts if freshness.is_due(each + long, last.get(each), now)]
            if wanted:
                yield report, day, wanted
        day += DAY


def last_reads(admin_key: AdminKey, report: Report, start: datetime, long: timedelta) -> dict[datetime, datetime]:
    """When each period of the day that begins then was last read. Periods are this long."""
    of_day = Read.objects.filter(admin_key=admin_key, report=report, start__gte=start, start__lt=start + DAY)
    rows: QuerySet[Read] = of_day.filter(end=F("start") + long).order_by()
    return dict(rows.values_list("start").annotate(last=Max("read_at")))


def keep_day(
    admin_key: AdminKey, report: Report, day: date, periods: list[datetime], found: Found, long: timedelta
) -> DayRead:
    """Keep the complete ones of these periods, each of which is this long."""
    now = timezone.now()
    rows: Rows = found.used if report == Report.USAGE else found.costs
    by_start: dict[datetime, Rows] = defaultdict(list)
    for row in rows:
        by_start[row.start].append(row)  # type: ignore[arg-type]
    said, kept = DayRead(day, report), list[tuple[Read, Rows]]()
    for start in periods:
        if not freshness.is_complete(start + long, found.refreshed_at, now):
            said.waiting = True
            continue
        read = Read(admin_key=admin_key, report=report, start=start, end=start + long, refreshed_at=found.refreshed_at)
        kept.append((read, by_start.get(start, [])))
    said.periods, said.changed = len(kept), keep(kept)
    key_hints.note_unlisted(admin_key, {row.about.api_key_id for row in rows})
    return said


@transaction.atomic
def keep(reads: list[tuple[Read, Rows]]) -> int:
    """Keep reads of one report, each with its rows if they differ from the read before. Returns how many differ."""
    if not reads:
        return 0
    first, now, changed = reads[0][0], timezone.now(), list[tuple[Read, Rows]]()
    # A day of a bill replaces that of another bill of its format.
    source = {"bill__format": first.bill.format_id} if first.bill else {"admin_key": first.admin_key_id}
    known = Read.objects.filter(report=first.report, start__in=[read.start for read, _ in reads], **source)
    before = {(read.start, read.end): read for read in known.order_by("start", "end", "-id").distinct("start", "end")}
    for read, rows in reads:
        read.read_at, read.digest = now, digest(rows)
        last = before.get((read.start, read.end))
        if last is not None and last.digest == read.digest:
            read.same_as_id = last.rows_of
        else:
            changed.append((read, rows))
    Read.objects.bulk_create([read for read, _ in reads])
    table: Any = UsageRow if first.report == Report.USAGE else CostRow
    table.objects.bulk_create([stored(read, row) for read, rows in changed for row in rows], batch_size=PART)
    return len(changed)


def stored(read: Read, row: Used | Cost) -> UsageRow | CostRow:
    """A row as the tables have it."""
    about = row.about._asdict()
    if isinstance(row, Used):
        return UsageRow(read=read, start=row.start, **about, requests=row.requests, **row.tokens)
    return CostRow(
        read=read,
        start=row.start,
        **about,
        cost_type=row.cost_type,
        token_type=row.token_type,
        meter=row.meter[:300],
        amount=row.amount,
        list_amount=row.listed,
        quantity=row.quantity,
    )


def digest(rows: Rows) -> str:
    """A hash of the figures, in any order, and without zeros at their ends."""

    def line(row: Used | Cost) -> str:
        if isinstance(row, Used):
            return repr((row.about, row.requests, sorted(row.tokens.items())))
        numbers = [None if each is None else plain(each) for each in (row.amount, row.listed, row.quantity)]
        return repr((row.about, row.cost_type, row.token_type, row.meter, numbers))

    return hashlib.sha256("\n".join(sorted(map(line, rows))).encode()).hexdigest()


def plain(amount: object) -> str:
    """An amount without zeros at its end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def bill_days(bill: Bill) -> set[date]:
    """The days that a bill has."""
    return {each.astimezone(UTC).date() for each in Read.objects.filter(bill=bill).values_list("start", flat=True)}
