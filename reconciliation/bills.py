"""Reads uploaded files of a cloud's bill (CSV): by a saved format, within bounds, each file once.

Lines are summed by day (UTC) and meter before they are kept. Which model's tokens a meter counts is looked up when they
are compared, so that patterns may follow. A day in a later file replaces that of earlier ones
of the same format, like a later read of a report.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import IO

from django.db import IntegrityError, transaction

from keys.errors import Conflict, Unusable
from reconciliation import comparing, reading
from reconciliation.bill_columns import Meters
from reconciliation.freshness import DAY
from reconciliation.reads import CostRow, Read, Report
from reconciliation.reports.rows import EXACT, About, Cost, Surprise, decimal
from reconciliation.sources import Bill, BillFormat
from reconciliation.theirs import ZERO, add, total
from usage.models import ExchangeRate

MOST_BYTES, MOST_LINES, MOST_METERS = 200 << 20, 1_000_000, 50_000
LONGEST_CELL = 4_000
LONGEST_METER = 300
# More than a year in one file is a mistake in the column of dates.
MOST_DAYS = 400

MONTHS = re.compile(r"\d{1,2}/\d{1,2}/\d{4}")


@dataclass(slots=True)
class Sums:
    """What a file has, by day and meter: USD, and quantities in the file's unit.

    Attributes:
        lines: that count; `left_out`: those of other services.
    """

    lines: int = 0
    left_out: int = 0
    amounts: dict[tuple[datetime, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    quantities: dict[tuple[datetime, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))


def take(format_: BillFormat, filename: str, file: IO[bytes], *, author: str) -> Bill:
    """Read a file, keep it and compare its days.

    Raises:
        Conflict: the same file was taken before.
        Unusable: it can't be read; the message names the line.
    """
    digest, size = hashed(file)
    before = Bill.objects.filter(sha256=digest).first()
    if before is not None:
        raise Conflict(f"this file was uploaded before, as “{before.filename}” on {before.uploaded_at:%Y-%m-%d}")
    file.seek(0)
    sums = read(format_, file)
    if not sums.lines:
        raise Unusable("the file has no line that counts: check the format's columns and its `only`")
    bill = kept(format_, filename, digest, size, sums, author)
    comparing.compare_days(format_, reading.bill_days(bill))
    return bill


def hashed(file: IO[bytes]) -> tuple[str, int]:
    """The SHA-256 of a file, and its size.

    Raises:
        Unusable: it is too long.
    """
    digest, size = hashlib.sha256(), 0
    while part := file.read(1 << 20):
        size += len(part)
        if size > MOST_BYTES:
            raise Unusable(f"the file is longer than {MOST_BYTES >> 20} MiB: split it by day")
        digest.update(part)
    return digest.hexdigest(), size


def read(format_: BillFormat, file: IO[bytes]) -> Sums:
    """The sums of a file.

    Raises:
        Unusable: it can't be read.
    """
    sums = Sums()
    rates: dict[tuple[str, datetime], Decimal] = {}
    columns: Mapping[str, str] = format_.columns
    for number, line in lines(file, columns):
        if number > MOST_LINES:
            raise Unusable(f"the file has more than {MOST_LINES:,} lines: split it by day")
        if "only" in columns and columns.get("only_value", "") not in line[columns["only"]]:
            sums.left_out += 1
            continue
        try:
            day = day_of(line[columns["start"]])
            amount = number_of(line[columns["cost"]])
            quantity = number_of(line[columns["quantity"]]) if "quantity" in columns else None
        except ValueError as error:
            raise Unusable(f"line {number}: {error}") from None
        currency = line[columns["currency"]].strip().upper() if "currency" in columns else "USD"
        if currency not in ("", "USD"):
            amount = EXACT.quantize(EXACT.divide(amount, rate(rates, currency, day)), Decimal(1).scaleb(-28))
        meter = " ".join(line[columns["meter"]].split())[:LONGEST_METER]
        sums.lines += 1
        sums.amounts[day, meter] = add(sums.amounts[day, meter], amount)
        if quantity is not None:
            sums.quantities[day, meter] = add(sums.quantities[day, meter], quantity)
        if len(sums.amounts) > MOST_METERS:
            raise Unusable(f"the file has more than {MOST_METERS:,} days and meters: check the column of the meter")
    return sums


def lines(file: IO[bytes], columns: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a file by column, with their numbers as people count them.

    Raises:
        Unusable: it is no CSV in UTF-8, or lacks a column.
    """
    wanted = [name for what, name in columns.items() if what != "only_value"]
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        found = csv.reader(text, strict=True)
        head = next(found, [])
        if missing := [name for name in wanted if name not in head]:
            raise Unusable(f"the file has no column “{missing[0]}”: its columns are {', '.join(head)[:300]}")
        places = {name: head.index(name) for name in wanted}
        for cells in found:
            if not cells:
                continue
            if len(cells) != len(head):
                raise Unusable(f"line {found.line_num}: {len(cells)} cells, and {len(head)} columns")
            yield found.line_num, {name: cells[place][:LONGEST_CELL] for name, place in places.items()}
    except (csv.Error, UnicodeError) as error:
        raise Unusable(f"the file is no CSV in UTF-8 ({type(error).__name__})") from None
    finally:
        text.detach()


def day_of(text: str) -> datetime:
    """The day (UTC) of a time: ISO 8601, `2026-11-03 10:00:00 UTC`, or `11/03/2026`.

    Raises:
        ValueError: it is something else.
    """
    text = text.strip().removesuffix(" UTC")
    try:
        if MONTHS.fullmatch(text):
            found = datetime.strptime(text, "%m/%d/%Y").replace(tzinfo=UTC)
        else:
            found = datetime.fromisoformat(text)
            found = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"“{text[:40]}” is not a date") from None
    return found.replace(hour=0, minute=0, second=0, microsecond=0)


def number_of(text: str) -> Decimal:
    """An exact number; 0 for an empty cell.

    Raises:
        ValueError: it isn't one.
    """
    text = text.strip()
    if not text:
        return ZERO
    if not re.fullmatch(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]{1,2})?|[-+]?[0-9]+\.", text):
        raise ValueError(f"“{text[:40]}” is not a number")
    try:
        return decimal(text)
    except Surprise:
        raise ValueError(f"“{text[:40]}” has too many digits") from None


def rate(known: dict[tuple[str, datetime], Decimal], currency: str, day: datetime) -> Decimal:
    """What a USD was worth in another currency on a day.

    Raises:
        Unusable: there is no exchange rate.
    """
    if (currency, day) not in known:
        rows = ExchangeRate.objects.filter(currency=currency).order_by("valid_from")
        found = rows.filter(valid_from__lt=day + DAY).last() or rows.first()
        if found is None:
            raise Unusable(f"the file has amounts in {currency[:10]}: enter an exchange rate first, under Billing")
        known[currency, day] = found.rate
    return known[currency, day]


@transaction.atomic
def kept(format_: BillFormat, filename: str, digest: str, size: int, sums: Sums, author: str) -> Bill:
    """Store the bill, and a read for each of its days.

    Raises:
        Conflict: the same file is being taken by someone else.
        Unusable: its dates are too far apart.
    """
    days = sorted({day for day, *_ in sums.amounts})
    if days[-1] - days[0] > timedelta(days=MOST_DAYS):
        raise Unusable(f"the file has more than {MOST_DAYS} days: check the column of the dates")
    bill = Bill(
        format=format_,
        filename=filename[:200],
        sha256=digest,
        size=size,
        lines=sums.lines,
        first_day=days[0].date(),
        last_day=days[-1].date(),
        amount=total(sums.amounts.values()),
        author=author,
    )
    try:
        with transaction.atomic():
            bill.save()
    except IntegrityError:
        raise Conflict("this file was uploaded before") from None
    costs: dict[datetime, list[Cost]] = defaultdict(list)
    for (day, meter), amount in sums.amounts.items():
        costs[day].append(Cost(day, About(), "meter", "", amount, None, meter, sums.quantities.get((day, meter))))
    reading.keep([(Read(bill=bill, report=Report.COST, start=day, end=day + DAY), rows) for day, rows in costs.items()])
    return bill


def unmapped(bill: Bill) -> list[tuple[str, Decimal]]:
    """The meters of a bill that no pattern of its format fits, with USD, the largest amount first."""
    meters, sums = Meters(bill.format), defaultdict[str, Decimal](Decimal)
    reads = [each.rows_of for each in Read.objects.filter(bill=bill)]
    for meter, amount in CostRow.objects.filter(read__in=reads).values_list("meter", "amount"):
        if not meters.of(meter)[0]:
            sums[meter] = add(sums[meter], amount)
    return sorted(sums.items(), key=lambda one: -one[1])


def compare_again(format_: BillFormat) -> None:
    """Compare all days of a format's bills: its patterns have changed."""
    for bill in Bill.objects.filter(format=format_):
        comparing.compare_days(format_, reading.bill_days(bill))
