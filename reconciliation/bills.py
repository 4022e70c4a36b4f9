"""Reads uploaded files of a cloud's bill (CSV): by a saved format, within bounds, each file once.

Lines are summed by day (UTC), meter and model before they are kept. A day in a later file replaces that of earlier ones
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
from typing import IO, Any

from django.db import IntegrityError, transaction

from keys import patterns
from keys.errors import Conflict, Unusable
from reconciliation import comparing, reading
from reconciliation.freshness import DAY
from reconciliation.reads import TOKEN_TYPES, CostRow, Read, Report
from reconciliation.reports.rows import EXACT, About, Cost, Surprise, Used, decimal
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
    """What a file has, by day, meter, model and type of tokens.

    Attributes:
        lines: that count; `left_out`: those of other services.
    """

    lines: int = 0
    left_out: int = 0
    amounts: dict[tuple[datetime, str, str, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    tokens: dict[tuple[datetime, str, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))


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
    sums, meters = Sums(), Meters(format_)
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
        model, token_type = meters.of(meter)
        sums.lines += 1
        key = (day, meter, model, token_type)
        sums.amounts[key] = add(sums.amounts[key], amount)
        if quantity is not None and token_type:
            spot = (day, model, token_type)
            sums.tokens[spot] = add(sums.tokens[spot], EXACT.multiply(quantity, Decimal(format_.tokens_in_unit)))
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


class Meters:
    """Which model's tokens a meter counts, by a format's patterns."""

    def __init__(self, format_: BillFormat) -> None:
        self.patterns = [(each["pattern"], each["model"], each["token_type"]) for each in format_.meters]
        self.known: dict[str, tuple[str, str]] = {}

    def of(self, meter: str) -> tuple[str, str]:
        """The model and the type of tokens (empty: a fee of that model); both empty: no pattern fits."""
        if meter not in self.known:
            fitting = (each[1:] for each in self.patterns if patterns.stands_for(each[0], meter))
            model, token_type = next(fitting, ("", ""))
            self.known[meter] = (model, token_type)
        return self.known[meter]


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
        unmapped=total(amount for (_, _, model, _), amount in sums.amounts.items() if not model),
        author=author,
    )
    try:
        with transaction.atomic():
            bill.save()
    except IntegrityError:
        raise Conflict("this file was uploaded before") from None
    for day in days:
        costs = [
            Cost(day, About(model=model), "tokens" if token_type else "other", token_type, amount, None, meter)
            for (at, meter, model, token_type), amount in sums.amounts.items()
            if at == day
        ]
        used: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(TOKEN_TYPES, 0))
        for (at, model, token_type), tokens in sums.tokens.items():
            if at == day:
                used[model][token_type] += round(tokens)
        rows = [Used(day, About(model=model), None, tokens) for model, tokens in used.items()]
        for report, found in ((Report.USAGE, rows), (Report.COST, costs)):
            reading.keep(Read(bill=bill, report=report, start=day, end=day + DAY), found)
    return bill


def unmapped(bill: Bill) -> list[dict[str, Any]]:
    """The meters of a bill that no pattern fits, the largest amount first."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for meter, amount in CostRow.objects.filter(
        read__in=[each.rows_of for each in Read.objects.filter(bill=bill)], model=""
    ).values_list("meter", "amount"):
        sums[meter] = add(sums[meter], amount)
    return [{"meter": meter, "amount": amount} for meter, amount in sorted(sums.items(), key=lambda one: -one[1])]
