"""Files of clouds' bills are read by a saved format, each once, and what no pattern fits is shown with its money."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from keys.errors import Conflict, Unusable
from keys.models import ProviderKey
from reconciliation import bill_columns, bills
from reconciliation.bill_columns import PRESETS, read_columns, read_meters
from reconciliation.models import Bill, BillFormat, Comparison, Read
from tests.support.ledger_rows import empty_ledger, make_cast, make_entry
from tests.support.reported import OPUS, USED, at, compared, cost
from usage.models import ExchangeRate
from usage.pricing import load_price_book

pytestmark = pytest.mark.django_db(transaction=True)
METERS = """
*opus-5-5-input-tokens* = claude-opus-5-5, input_tokens
*opus-5-5-output-tokens* = claude-opus-5-5, output_tokens
*opus-5-5-cache-read* = claude-opus-5-5, cache_read_input_tokens
*opus-5-5-search* = claude-opus-5-5
"""
HEAD = (
    "line_item_usage_start_date,line_item_usage_type,line_item_unblended_cost,line_item_usage_amount,"
    "line_item_currency_code\n"
)


def aws(**changes: object) -> BillFormat:
    """A format for AWS, whose usage is in thousands of tokens."""
    key = ProviderKey.objects.create(name="bedrock", provider="bedrock", region="us-east-1")
    terms = {
        "name": "aws",
        "provider_key": key,
        "columns": PRESETS["aws"].columns,
        "meters": read_meters(METERS),
        "tokens_in_unit": 1000,
    }
    return BillFormat.objects.create(**terms | changes)


def take(format_: BillFormat, text: str, name: str = "bill.csv") -> Bill:
    return bills.take(format_, name, io.BytesIO(text.encode()), author="finance")


def line(meter: str, amount: object, quantity: object, day: int = 3, currency: str = "USD") -> str:
    return f"2026-11-{day:02d}T10:00:00Z,{meter},{amount},{quantity},{currency}\n"


def bill(format_: BillFormat) -> str:
    """What a call of `USED` costs there, in the file's words."""
    price = load_price_book().price("bedrock", OPUS, at(3))
    rates = {
        "input-tokens": (price.input, 1000),
        "output-tokens": (price.output, 300),
        "cache-read-x": (price.cache_read, 70),
    }
    return HEAD + "".join(
        line(f"USE1-opus-5-5-{name}", f"{rate * tokens / 1_000_000:f}", f"{Decimal(tokens) / 1000:f}")
        for name, (rate, tokens) in rates.items()
    )


def test_a_bill_is_compared_by_day_and_model() -> None:
    empty_ledger()
    cast, format_ = make_cast(), aws()
    price = load_price_book().price("bedrock", OPUS, at(3))
    from usage.tokens import TokenCounts

    make_entry(
        cast.alice, at(3, 22), format_.provider_key, **USED, cost=price.cost(TokenCounts(**USED)), provider="bedrock"
    )
    taken = take(format_, bill(format_) + line("USE1-opus-5-5-search", "0.5", "1") + line("EC2 instance", "7.25", "1"))
    [row] = compared()
    assert (row.hours, row.start, row.model, row.their_requests) == (24, at(3, 0), OPUS, None)
    assert row.their_tokens == row.our_tokens == 1370
    assert (row.difference, row.fees, row.unexplained) == (Decimal("0.5"), Decimal("0.5"), Decimal(0))
    assert bills.unmapped(taken) == [("EC2 instance", Decimal("7.25"))]
    [outside] = Comparison.objects.filter(provider_key=None)
    assert outside.theirs == Decimal("7.25")


def test_the_same_file_is_taken_once() -> None:
    format_ = aws()
    text = HEAD + line("USE1-opus-5-5-input-tokens", 1, 1)
    take(format_, text)
    with pytest.raises(Conflict, match=r"uploaded before, as “bill\.csv”"):
        take(format_, text, "another name.csv")
    assert Bill.objects.count() == 1


def test_a_day_of_a_later_file_replaces_that_of_an_earlier_one() -> None:
    format_ = aws()
    take(format_, HEAD + line("USE1-opus-5-5-input-tokens", 1, 1) + line("USE1-opus-5-5-input-tokens", 5, 1, day=4))
    take(format_, HEAD + line("USE1-opus-5-5-input-tokens", 2, 1))
    assert [(row.start.day, row.theirs) for row in compared()] == [(3, Decimal(2)), (4, Decimal(5))]
    assert Read.objects.count() == 3


def test_patterns_may_follow_the_file() -> None:
    format_ = aws(meters=[])
    taken = take(format_, HEAD + line("USE1-opus-5-5-input-tokens", "1.5", 1))
    assert [row.theirs for row in compared()] == []
    format_.meters = read_meters(METERS)
    format_.save()
    bills.compare_again(format_)
    assert [row.theirs for row in compared()] == [Decimal("1.5")]
    assert bills.unmapped(taken) == []
    assert not Comparison.objects.filter(provider_key=None).exists()


def test_another_currency_needs_an_exchange_rate() -> None:
    format_ = aws()
    text = HEAD + line("USE1-opus-5-5-input-tokens", "0.9", 1, currency="EUR")
    with pytest.raises(Unusable, match="exchange rate"):
        take(format_, text)
    ExchangeRate.objects.create(currency="EUR", rate="0.9", source="ECB", valid_from=datetime(2026, 10, 1, tzinfo=UTC))
    take(format_, text)
    assert [row.theirs for row in compared()] == [1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "no column “line_item_usage_start_date”"),
        (HEAD, "no line that counts"),
        (HEAD + line("x", "1,5", 1), "cells"),
        (HEAD + line("x", "ten", 1), "line 2: “ten” is not a number"),
        (HEAD + line("x", "NaN", 1), "line 2: “NaN” is not a number"),
        (HEAD + line("x", "1e99", 1), "too many digits"),
        (HEAD + "soon,x,1,1,USD\n", "“soon” is not a date"),
        (HEAD + line("x", 1, 1) + "2020-01-01,x,1,1,USD\n", "more than 400 days"),
        (HEAD + '"x\n', "no CSV"),
        ("\x00", "no column"),
    ],
)
def test_a_file_that_can_not_be_read_says_where(text: str, said: str) -> None:
    with pytest.raises(Unusable, match=said):
        take(aws(), text)
    assert not Bill.objects.exists()


def test_a_file_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bills, "MOST_LINES", 3)
    with pytest.raises(Unusable, match="more than 3 lines"):
        take(aws(), HEAD + line("x", 1, 1) * 5)
    monkeypatch.setattr(bills, "MOST_BYTES", 10)
    with pytest.raises(Unusable, match="longer than"):
        take(BillFormat.objects.get(), HEAD)


def test_other_services_of_a_file_are_left_out() -> None:
    columns = {**PRESETS["aws"].columns, "only": "line_item_usage_type", "only_value": "opus"}
    taken = take(aws(columns=columns), HEAD + line("EC2", 9, 1) + line("USE1-opus-5-5-input-tokens", 1, 1))
    assert (taken.lines, taken.amount) == (1, Decimal(1))


def test_formats_are_written_as_lines() -> None:
    columns = {"start": "Date", "meter": "Meter", "cost": "Cost"}
    assert read_columns(bill_columns.columns_in_lines(columns)) == columns
    assert read_meters(bill_columns.meters_in_lines(read_meters(METERS))) == read_meters(METERS)
    for text in ("start = Date", "start Date", "when = Date"):
        with pytest.raises(ValueError, match=r"missing|WHAT|one of"):
            read_columns(text)
    for text in ("*x*", "*x* = ", "*x* = claude, tokens"):
        with pytest.raises(ValueError, match=r"PATTERN|one of"):
            read_meters(text)


def test_each_preset_has_what_a_format_needs() -> None:
    for preset in PRESETS.values():
        assert bill_columns.checked_columns(preset.columns) == preset.columns
    assert cost(OPUS, USED) > 0
