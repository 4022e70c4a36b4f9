"""A closed month has exact lines, a number without a gap, and everything in it; what comes later goes elsewhere."""

from __future__ import annotations

import json
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import Sum
from django.utils import timezone

from billing import closing, covers, credit_notes, documents, drafts, verification
from billing.models import Closing, Cover, Issuer, LineKind, Particulars, Statement, StatementLine
from keys.errors import Unusable
from keys.models import Customer, VirtualKey
from tests.support.ledger_rows import Cast, empty_ledger, make_cast
from tests.support.role_cast import make_hold
from tests.support.statement_cast import (
    IN_OCTOBER,
    OCTOBER,
    OPUS,
    SEPTEMBER,
    SONNET,
    USED,
    bill,
    called,
    close,
    corrected,
    ledger_sum,
    make_issuer,
    no_files,
)
from usage.models import ExchangeRate, Hold, Price
from usage.pricing import load_price_book
from usage.tokens import TOKEN_COLUMNS, TokenCounts

pytestmark = pytest.mark.django_db(transaction=True)
NOVEMBER = date(2026, 11, 1)


@pytest.fixture
def cast() -> Cast:
    empty_ledger()
    return make_cast()


@pytest.fixture
def issuer(cast: Cast) -> Issuer:
    """Both customers are billed by one issuer."""
    found = make_issuer()
    bill(cast.alice.customer, found)
    bill(cast.charlie.customer, found)
    return found


def faults(*statements: Statement) -> list[str]:
    return [fault for each in statements for fault in verification.verify(Statement.objects.get(pk=each.pk))]


def test_lines_split_a_month_by_key_model_and_category_and_add_up(cast: Cast, issuer: Issuer) -> None:
    for key, model in ((cast.alice, OPUS), (cast.alice, OPUS), (cast.bob, OPUS), (cast.alice, SONNET)):
        called(key, model=model)
    called(cast.charlie)
    [statement] = close(cast.alice.customer)
    price = load_price_book().price("anthropic", OPUS, IN_OCTOBER)
    lines = {
        (line.virtual_key, line.model, line.category): line for line in statement.lines.exclude(kind=LineKind.ROUNDING)
    }
    assert len(lines) == 9
    line = lines["alice", OPUS, "output"]
    assert (line.quantity, line.calls, line.team) == (600, 2, "Research")
    assert (line.unit_price, line.list_price) == (price.output, price.output)
    assert line.net == price.output * 600 / 1_000_000
    assert statement.number == "PF-00001"
    assert statement.total_usd == ledger_sum(cast.alice.customer)
    assert faults(statement) == []


def test_a_mark_up_is_a_negative_discount_and_its_odd_digits_are_in_the_lines(cast: Cast, issuer: Issuer) -> None:
    Price.objects.create(
        sets="charge", model="*", percent=Decimal("33.3333"), flat=Decimal("0.01"), valid_from=IN_OCTOBER
    )
    price = load_price_book().price("anthropic", OPUS, IN_OCTOBER)
    for number in range(5):
        used = TokenCounts(input_tokens=1_000 + number, output_tokens=7, web_search_requests=1)
        charge = price.owed.cost(used, steps=2) + price.owed.flat
        called(cast.alice, used=used, charge=charge, cost=price.cost(used), price_version=price.owed.version)
    [statement] = close(cast.alice.customer)
    lines = {line.category: line for line in statement.lines.exclude(kind=LineKind.ROUNDING)}
    assert lines.keys() == {"input", "output", "web_search", "request"}
    assert lines["input"].unit_price == price.input * Decimal("1.333333")
    assert lines["input"].list_price == price.input
    assert lines["input"].discount < 0
    assert (lines["request"].quantity, lines["request"].net) == (5, Decimal("0.05"))
    assert statement.total_usd == ledger_sum(cast.alice.customer)
    assert faults(statement) == []


def test_a_call_of_several_models_is_split_by_model(cast: Cast, issuer: Issuer) -> None:
    prices = {model: load_price_book().price("anthropic", model, IN_OCTOBER) for model in (OPUS, SONNET)}
    detail = [
        {
            "type": "message",
            "model": model,
            **tokens(USED),
            "cost": str(price.cost(USED)),
            "price_version": price.version,
        }
        for model, price in prices.items()
    ]
    cost = sum((price.cost(USED) for price in prices.values()), Decimal(0))
    called(cast.alice, used=USED + USED, iterations=detail, cost=cost)
    [statement] = close(cast.alice.customer)
    sums = dict(statement.lines.filter(kind=LineKind.TOKENS).values_list("model").annotate(Sum("net")).order_by())
    assert sums == {model: price.cost(USED) for model, price in prices.items()}
    assert not statement.lines.filter(kind=LineKind.REMAINDER).exists()
    assert faults(statement) == []


def tokens(used: TokenCounts) -> dict[str, int]:
    return {name: getattr(used, name) for name in TOKEN_COLUMNS}


def test_what_tokens_do_not_explain_is_a_line_of_its_own(cast: Cast, issuer: Issuer) -> None:
    call = called(cast.alice, estimated=True, cost=Decimal("0.5"))
    [draft] = drafts.compute(cast.alice.customer, OCTOBER).drafts
    rest = next(line for line in draft.lines if line.kind == LineKind.REMAINDER)
    listed = load_price_book().price("anthropic", OPUS, IN_OCTOBER).cost(USED)
    assert (rest.net, rest.estimated) == (Decimal("0.5") - listed, True)
    corrected(call, "-0.1")
    [statement] = close(cast.alice.customer)
    line = statement.lines.get(kind=LineKind.ADJUSTMENT)
    assert (line.net, line.reason, line.earlier, line.refers_to) == (
        Decimal("-0.1"),
        "Correction: agreed (finance)",
        False,
        "",
    )
    assert faults(statement) == []


def test_amounts_are_rounded_half_even_and_the_difference_is_a_line(cast: Cast, issuer: Issuer) -> None:
    Particulars.objects.filter(customer=cast.alice.customer).update(currency="EUR", time_zone="Europe/Berlin")
    called(cast.bob)
    with pytest.raises(Unusable, match="no exchange rate for EUR"):
        close(cast.alice.customer)
    ExchangeRate.objects.create(
        currency="EUR", rate=Decimal("0.9123456789"), source="ECB", valid_from=IN_OCTOBER - timedelta(days=99)
    )
    ExchangeRate.objects.create(currency="EUR", rate=Decimal("9"), source="later", valid_from=timezone.now())
    for key in (cast.alice, cast.bob):
        called(key, used=TokenCounts(input_tokens=123_457, output_tokens=7_001))
    [statement] = close(cast.alice.customer)
    said = json.loads(statement.content)
    assert said["exchange_rate"]["rate"] == "0.9123456789"
    assert said["period"] == {
        "starts_at": "2026-09-30T22:00:00.000000Z",
        "ends_at": "2026-10-31T23:00:00.000000Z",
        "zone": "Europe/Berlin",
    }
    exact = statement.total_usd * Decimal("0.9123456789")
    assert abs(statement.total - exact) <= Decimal("0.005")
    assert sum(line.amount for line in statement.lines.all()) == statement.total
    assert faults(statement) == []


def test_a_month_begins_where_the_one_before_ended_also_after_a_change_of_zone(cast: Cast, issuer: Issuer) -> None:
    edge = datetime(2026, 10, 1, 2, tzinfo=UTC)
    called(cast.alice, at=edge - timedelta(days=3))
    called(cast.alice, at=edge)
    [september] = close(cast.alice.customer, SEPTEMBER)
    Particulars.objects.filter(customer=cast.alice.customer).update(time_zone="America/New_York")
    [october] = close(cast.alice.customer)
    assert (september.closing.ends_at, october.closing.starts_at) == (datetime(2026, 10, 1, tzinfo=UTC),) * 2
    assert october.closing.ends_at == datetime(2026, 11, 1, 4, tzinfo=UTC)
    assert september.total_usd + october.total_usd == ledger_sum(cast.alice.customer)


def test_months_close_in_order_and_once(cast: Cast, issuer: Issuer) -> None:
    customer = cast.alice.customer
    called(cast.alice, at=IN_OCTOBER - timedelta(days=33))
    called(cast.alice)
    with pytest.raises(Unusable, match="1 calls from before it"):
        close(customer)
    close(customer, SEPTEMBER)
    with pytest.raises(Unusable, match="2026-09 of Ours is closed already"):
        close(customer, SEPTEMBER)
    with pytest.raises(Unusable, match="2026-08 of Ours is before 2026-09"):
        close(customer, date(2026, 8, 1))
    called(cast.alice, at=IN_OCTOBER + timedelta(days=20))
    with pytest.raises(Unusable, match="An earlier month with calls is open"):
        close(customer, date(2026, 11, 1))
    close(customer)
    with pytest.raises(Unusable, match="isn't over"):
        close(customer, timezone.now().date().replace(day=1))
    with pytest.raises(Unusable, match="has no calls or adjustments"):
        close(cast.charlie.customer)
    assert [row.number for row in Statement.objects.order_by("sequence")] == ["PF-00001", "PF-00002"]


def test_calls_before_a_first_statement_may_be_billed_elsewhere(cast: Cast, issuer: Issuer) -> None:
    earlier = called(cast.alice, at=IN_OCTOBER - timedelta(days=33))
    called(cast.alice)
    [statement] = close(cast.alice.customer, leave_earlier=True)
    corrected(earlier, "7")
    called(cast.alice, at=IN_OCTOBER + timedelta(days=30))
    [november] = close_open_month(cast.alice.customer)
    assert {line.kind for line in november.lines.all()} <= {LineKind.TOKENS, LineKind.ROUNDING}
    assert faults(statement, november) == []


def close_open_month(customer: Customer) -> list[Statement]:
    """November, as if it were over."""
    with patch("usage.moments.now", lambda: datetime(2026, 12, 3, tzinfo=UTC)):
        return close(customer, NOVEMBER)


def test_what_comes_after_a_closing_is_on_the_next_statement(cast: Cast, issuer: Issuer) -> None:
    call = called(cast.alice)
    [october] = close(cast.alice.customer)
    late = called(cast.alice, at=IN_OCTOBER + timedelta(days=1), model=SONNET)
    corrected(call, "-0.001")
    called(cast.alice, at=IN_OCTOBER + timedelta(days=30))
    [november] = close_open_month(cast.alice.customer)
    adjusted = november.lines.get(kind=LineKind.ADJUSTMENT)
    assert (adjusted.earlier, adjusted.refers_to) == (True, "PF-00001")
    assert {line.model for line in november.lines.filter(earlier=True, kind=LineKind.TOKENS)} == {SONNET}
    assert october.total_usd + november.total_usd == ledger_sum(cast.alice.customer)
    assert faults(october, november) == []
    assert late


def test_a_row_whose_transaction_is_still_open_is_on_the_next_statement(cast: Cast, issuer: Issuer) -> None:
    called(cast.alice)
    closing.wait(cast.alice.customer_id, timezone.now(), timedelta(seconds=60))
    apart = connections.create_connection("default")
    try:
        apart.set_autocommit(False)
        called(cast.alice, using=apart)
        [october] = close(cast.alice.customer, lease=timedelta(seconds=0.3))
        apart.commit()
    finally:
        apart.close()
    assert documents.said(october)["calls"] == 1
    assert covers.total(drafts_covers(cast.alice.customer)).calls == 1
    assert faults(october) == []


def drafts_covers(customer: Customer) -> list[covers.Covered]:
    return drafts.compute(customer, NOVEMBER).covered


def test_open_calls_are_waited_for_and_then_listed(cast: Cast, issuer: Issuer) -> None:
    called(cast.alice)
    hold = make_hold(cast.alice)
    Hold.objects.filter(pk=hold.pk).update(admitted_at=IN_OCTOBER, process=uuid4(), ceiling=Decimal("0.25"))
    began = timezone.now()
    [statement] = close(cast.alice.customer, lease=timedelta(seconds=1))
    assert timezone.now() - began >= timedelta(seconds=1)
    held = documents.said(statement)["held"]
    assert (held["calls"], held["ceiling_usd"], held["listed"][0]["id"]) == (1, "0.25", str(hold.pk))


def test_by_team_each_team_has_a_statement(cast: Cast, issuer: Issuer) -> None:
    Particulars.objects.filter(customer=cast.alice.customer).update(by_team=True)
    alone = VirtualKey.objects.create(name="alone", customer=cast.alice.customer)
    for key in (cast.alice, cast.bob, alone):
        called(key)
    issued = close(cast.alice.customer)
    assert [str(each.team) for each in issued] == ["Ours / Research", "None"]
    assert sum(each.total_usd for each in issued) == ledger_sum(cast.alice.customer)
    assert faults(*issued) == []


def test_a_credit_note_takes_back_what_a_closed_month_costs_less(cast: Cast, issuer: Issuer) -> None:
    call = called(cast.alice)
    [october] = close(cast.alice.customer)
    with pytest.raises(Unusable, match="nothing to credit"):
        credit(october)
    corrected(call, "0.5")
    with pytest.raises(Unusable, match="goes on the next statement"):
        credit(october)
    corrected(call, "-1.5")
    [note] = credit(october)
    assert (note.number, note.total_usd, note.total, note.corrects) == (
        "PF-CN-00001",
        Decimal(-1),
        Decimal(-1),
        october,
    )
    corrected(call, "-0.25")
    called(cast.alice, at=IN_OCTOBER + timedelta(days=30))
    [november] = close_open_month(cast.alice.customer)
    assert november.lines.get(kind=LineKind.ADJUSTMENT).net == Decimal("-0.25")
    assert sum(each.total_usd for each in (october, note, november)) == ledger_sum(cast.alice.customer)
    assert faults(october, note, november) == []
    assert verification.verify_covers() == verification.verify_issuer(Issuer.objects.get()) == []


def credit(statement: Statement) -> list[Statement]:
    return credit_notes.issue(statement.closing, reason="agreed", by="finance", make_files=no_files)


def test_with_four_eyes_a_second_person_closes(cast: Cast, issuer: Issuer) -> None:
    Issuer.objects.update(four_eyes=True)
    called(cast.alice)
    assert close(cast.alice.customer, by="ada") == []
    assert close(cast.alice.customer, by="ada") == []
    [statement] = close(cast.alice.customer, by="ben")
    assert (statement.closing.closed_by, statement.closing.confirmed_by) == ("ada", "ben")


def test_a_month_that_several_people_close_at_once_is_closed_once(cast: Cast, issuer: Issuer) -> None:
    called(cast.alice)
    outcomes: list[Any] = []
    meet = threading.Barrier(4)

    def work() -> None:
        meet.wait()
        try:
            outcomes.append(close(cast.alice.customer))
        except Unusable as error:
            outcomes.append(str(error))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("2026-10 of Ours is closed already") == 3
    assert Statement.objects.count() == Closing.objects.count() == 1


def test_a_failed_closing_takes_no_number(cast: Cast, issuer: Issuer) -> None:
    called(cast.alice)

    def fails(statement: Statement, document: bytes) -> dict[str, bytes]:
        raise OSError("no PDF")

    with pytest.raises(OSError, match="no PDF"):
        close(cast.alice.customer, make_files=fails)
    [statement] = close(cast.alice.customer)
    assert statement.number == "PF-00001"


def test_nothing_of_a_closed_month_can_be_edited(cast: Cast, issuer: Issuer) -> None:
    called(cast.alice)
    close(cast.alice.customer)
    for change in (
        lambda: Statement.objects.update(total=0),
        lambda: StatementLine.objects.update(net=0),
        lambda: Closing.objects.update(zone="UTC"),
        lambda: Cover.objects.update(from_xid="1"),
        lambda: StatementLine.objects.all().delete(),
    ):
        with pytest.raises(DatabaseError, match="a closed month is never edited"):
            change()
    with pytest.raises(DatabaseError, match="its prefix stays PF"):
        Issuer.objects.update(prefix="QF")
    with pytest.raises(DatabaseError, match="no gap"):
        Issuer.objects.update(next_number=9)


DIGITS = [
    ("billing_statementline", "net = net + 0.000000000001"),
    ("billing_statementline", "quantity = quantity + 1"),
    ("billing_statementline", "unit_price = 1"),
    ("billing_statementline", "virtual_key = 'x'"),
    ("billing_statement", "total = total + 0.01"),
    ("billing_statement", "total_usd = total_usd + 0.000000000001"),
    ("billing_statement", "content = replace(content, 'High', 'Low')"),
    ("billing_statement", "number = 'PF-00009'"),
    ("billing_statement", "issued_at = issued_at + interval '1 second'"),
    ("billing_statement", "hash = reverse(hash)"),
    ("billing_statement", "previous_hash = reverse(hash)"),
    ("billing_cover", "below_xid = '1'"),
    ("billing_closing", "ends_at = ends_at + interval '1 second'"),
    ("usage_ledgerentry", "cost = cost + 0.000000000001"),
]


@pytest.mark.parametrize(("table", "change"), DIGITS)
def test_a_changed_digit_is_found(cast: Cast, issuer: Issuer, table: str, change: str) -> None:
    called(cast.alice)
    [statement] = close(cast.alice.customer)
    assert faults(statement) == []
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(f"UPDATE {table} SET {change}")
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    assert faults(statement) != []


def test_a_missing_document_is_found(cast: Cast, issuer: Issuer) -> None:
    called(cast.alice)
    called(cast.charlie)
    [first], [second] = close(cast.alice.customer), close(cast.charlie.customer)
    assert second.previous_hash == first.hash
    for each, still in ((second, first), (first, second)):
        with transaction.atomic(), connection.cursor() as cursor:
            for table in ("billing_statement", "billing_statementline"):
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            cursor.execute("DELETE FROM billing_statementline WHERE statement_id = %s", [each.pk])
            cursor.execute("DELETE FROM billing_statement WHERE id = %s", [each.pk])
            assert verification.verify_issuer(Issuer.objects.get()) != []
            assert (faults(still) != []) is (still == second)
            transaction.set_rollback(True)
