"""Recorded calls are priced again by adjustments, once, and without a change of any row; *what if* writes nothing."""

from __future__ import annotations

import io
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from tests.support.ledger_rows import START, Cast, empty_ledger, make_cast, make_entry
from usage import own_prices, repricing, verification
from usage.models import Adjustment, LedgerEntry, Price
from usage.pricing import ModelPrice, load_price_book
from usage.repricing import Outcome, Prices
from usage.tokens import TOKEN_COLUMNS, TokenCounts
from usage.what_if import Instead, unpriced_models, what_if

pytestmark = pytest.mark.django_db(transaction=True)
OPUS, SONNET = "claude-opus-5-5", "claude-sonnet-5-5"
USED = TokenCounts(input_tokens=1000, output_tokens=300, cache_read_input_tokens=70)


@pytest.fixture
def cast() -> Cast:
    empty_ledger()
    return make_cast()


def listed(model: str = OPUS) -> ModelPrice:
    """The list price at the time of the calls."""
    return load_price_book().price("anthropic", model, START)


def tokens(used: TokenCounts) -> dict[str, int]:
    return {name: getattr(used, name) for name in TOKEN_COLUMNS}


def called(key: Any, used: TokenCounts = USED, model: str = OPUS, **changes: Any) -> UUID:
    """A call of this model, at its list price."""
    price = listed(model)
    plain = {"cost": price.cost(used), "price_version": price.version, "model": model}
    call: UUID = make_entry(key, **(tokens(used) | plain | changes))
    return call


def add(**changes: Any) -> Price:
    """A row that applies from now on; by default, a mark-up of a tenth."""
    price = Price(**{"sets": "charge", "model": "*", "percent": 10, "valid_from": None} | changes)
    own_prices.add(price)
    return price


def prices(**options: Any) -> Prices:
    return Prices(datetime.now(UTC), **options)


def preview() -> Outcome:
    return repricing.preview(LedgerEntry.objects.all(), prices())


def reprice(**options: Any) -> Outcome:
    return repricing.reprice(LedgerEntry.objects.all(), prices(**options), reason="contract", author="finance")


def amounts(call: UUID) -> tuple[Decimal, Decimal]:
    """What the provider charges and the owner pays for a call, with its adjustments."""
    parts = [LedgerEntry.objects.get(pk=call), *Adjustment.objects.filter(entry_id=call)]
    return sum((part.cost for part in parts), Decimal(0)), sum((part.owed for part in parts), Decimal(0))


def test_it_shows_the_sum_first_and_writes_it_once(cast: Cast) -> None:
    call, cost = called(cast.alice), listed().cost(USED)
    called(cast.bob, model=SONNET)
    add(model="claude-opus-*")
    shown = preview()
    assert (shown.read, [name for name, _ in shown.by_model()]) == (2, [OPUS])
    assert (shown.total.old.owed, shown.total.new.owed) == (cost, cost * Decimal("1.1"))
    assert not Adjustment.objects.exists()
    assert reprice().total == shown.total
    assert reprice().total.calls == 0
    [adjustment] = Adjustment.objects.all()
    assert (adjustment.cost, adjustment.charge) == (Decimal(0), cost * Decimal("0.1"))
    assert (adjustment.reason, adjustment.author, adjustment.detail["reason"]) == ("repricing", "finance", "contract")
    assert amounts(call) == (cost, cost * Decimal("1.1"))
    assert verification.verify() == []


def test_only_the_calls_of_a_rows_owner_change(cast: Cast) -> None:
    ours, theirs = called(cast.alice), called(cast.charlie)
    add(customer=cast.charlie.customer, percent=50)
    reprice()
    cost = listed().cost(USED)
    assert (amounts(ours), amounts(theirs)) == ((cost, cost), (cost, cost * Decimal("1.5")))


def test_a_withdrawn_mark_up_is_taken_back_to_the_last_digit(cast: Cast) -> None:
    call = called(cast.alice, charge=listed().cost(USED) * 3, price_version="price 7 on the list")
    price = add(percent="33.3333")
    reprice()
    assert amounts(call)[1] == (listed().cost(USED) * Decimal("1.333333")).quantize(Decimal("1e-12"))
    own_prices.end(price)
    reprice()
    assert amounts(call) == (listed().cost(USED), listed().cost(USED))


def test_each_iteration_has_the_price_of_its_model_and_what_was_free_stays_free(cast: Cast) -> None:
    parts = [(OPUS, USED, False), (SONNET, USED, False), (OPUS, USED, True)]
    detail = [
        {
            "type": "message",
            "model": model,
            **tokens(used),
            "cost": "0" if free else str(listed(model).cost(used)),
            "price_version": listed(model).version,
        }
        for model, used, free in parts
    ]
    cost = listed(OPUS).cost(USED) + listed(SONNET).cost(USED)
    version = f"{listed(OPUS).version}; {listed(SONNET).version}"
    call = called(cast.alice, USED + USED + USED, iterations=detail, cost=cost, price_version=version)
    add(sets="cost", model="claude-sonnet-*", percent=100)
    reprice()
    assert amounts(call)[0] == listed(OPUS).cost(USED) + 2 * listed(SONNET).cost(USED)


def test_each_attempt_that_was_billed_has_the_price_of_its_model(cast: Cast) -> None:
    attempts = [
        {"provider": "anthropic", "model": model, **tokens(USED), "cost": str(listed(model).cost(USED))}
        for model in (SONNET, OPUS)
    ]
    cost = listed(OPUS).cost(USED) + listed(SONNET).cost(USED)
    version = f"{listed(SONNET).version}; {listed(OPUS).version}"
    call = called(cast.alice, USED + USED, attempts=attempts, cost=cost, price_version=version)
    add(sets="cost", model="claude-sonnet-*", percent=100)
    reprice()
    assert amounts(call)[0] == listed(OPUS).cost(USED) + 2 * listed(SONNET).cost(USED)


def test_a_batch_stays_at_half_and_fast_mode_at_its_price(cast: Cast) -> None:
    batch = called(cast.alice, service_tier="batch", cost=listed().cost(USED, service_tier="batch"))
    fast = called(cast.alice, speed="fast", cost=listed().cost(USED, speed="fast"))
    add(sets="cost", percent=-50)
    reprice()
    assert amounts(batch)[0] == listed().cost(USED, service_tier="batch") / 2
    assert amounts(fast)[0] == listed().cost(USED, speed="fast") / 2


def test_an_amount_that_does_not_follow_from_tokens_is_left_alone_and_named(cast: Cast) -> None:
    call = called(cast.alice, cost="0.5", estimated=True)
    refused = called(cast.alice, cost=0, price_flag="refusal_not_billed")
    add()
    outcome = reprice()
    assert ([row.pk for row in outcome.named], outcome.irregular) == ([call], 1)
    assert not Adjustment.objects.filter(entry_id__in=[call, refused]).exists()


def test_a_correction_by_hand_stands_on_its_own(cast: Cast) -> None:
    call, cost = called(cast.alice), listed().cost(USED)
    Adjustment.objects.create(entry_id=call, reason="correction", cost=Decimal("-0.001"))
    add(sets="cost", percent=100)
    reprice()
    assert amounts(call)[0] == 2 * cost - Decimal("0.001")


def test_a_call_that_was_settled_late_is_priced_by_what_the_settlement_says(cast: Cast) -> None:
    estimate, price = TokenCounts(input_tokens=10), listed(SONNET)
    call = called(cast.alice, estimate, status="interrupted", estimated=True)
    Adjustment.objects.create(
        entry_id=call,
        reason="late_settlement",
        cost=price.cost(USED) - listed().cost(estimate),
        detail={"model": SONNET, "price_version": price.version},
        **{name: getattr(USED, name) - getattr(estimate, name) for name in TOKEN_COLUMNS},
    )
    add(sets="cost", model="claude-sonnet-*", percent=100)
    reprice()
    assert amounts(call)[0] == 2 * price.cost(USED)
    assert reprice().total.calls == 0


def test_by_default_the_rows_of_now_apply_and_otherwise_those_of_the_time(cast: Cast) -> None:
    called(cast.alice)
    add()
    assert reprice(as_then=True).total.calls == 0
    assert reprice().total.calls == 1


def test_pages_are_read_one_after_the_other(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repricing, "PAGE", 2)
    for minute in range(5):
        called(cast.alice, at=START + timedelta(minutes=minute))
    add()
    assert preview().total.calls == 5
    assert reprice().total.calls == 5
    assert reprice().total.calls == 0


def test_two_runs_at_once_adjust_each_call_once(cast: Cast) -> None:
    for _ in range(5):
        called(cast.alice)
    add()
    begin, written = threading.Barrier(2), list[int]()

    def run() -> None:
        begin.wait()
        written.append(reprice().total.calls)
        connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(written) == Adjustment.objects.count() == 5


def test_what_if_prices_calls_with_another_model_or_discount_and_writes_nothing(cast: Cast) -> None:
    called(cast.alice)
    rows = LedgerEntry.objects.all()
    other = what_if(rows, prices(), Instead(model=SONNET)).total
    assert (other.old.cost, other.new.cost) == (listed().cost(USED), listed(SONNET).cost(USED))
    cheaper = what_if(rows, prices(), Instead(percent=Decimal(-15))).total
    assert cheaper.new.cost == listed().cost(USED) * Decimal("0.85")
    assert not Adjustment.objects.exists()


def test_calls_without_a_price_are_listed_with_what_another_price_makes_of_them(cast: Cast) -> None:
    called(cast.alice)
    called(cast.alice, model=OPUS, cost="0.09", price_flag="unpriced", price_version="unpriced 30/150")
    [((provider, model), found)] = unpriced_models(LedgerEntry.objects.all()).items()
    assert (provider, model, found.calls, found.old.cost) == ("anthropic", OPUS, 1, Decimal("0.09"))


def run(command: str, *options: str) -> str:
    output = io.StringIO()
    call_command(command, *options, stdout=output, stderr=io.StringIO())
    return output.getvalue()


def test_the_commands_say_the_sums_and_write_only_with_yes(cast: Cast) -> None:
    called(cast.alice)
    called(cast.charlie)
    add()
    cost = listed().cost(USED).normalize()
    since = ("--since", "2026-11-01")
    said = run("reprice", *since, "--customer", "Ours", "--reason", "contract")
    assert said.splitlines()[0] == "1 calls read."
    assert f"{OPUS}: 1 calls, cost ${cost:f} → ${cost:f} (+0); charge ${cost:f} → " in said
    assert not Adjustment.objects.exists()
    run("reprice", *since, "--reason", "contract", "--yes")
    assert Adjustment.objects.count() == 2
    assert "Sum: 0 calls" in run("reprice", *since, "--reason", "contract", "--yes")
    instead = (2 * listed(SONNET).cost(USED)).normalize()
    assert f"cost ${2 * cost:f} → ${instead:f}" in run("what_if", *since, "--instead", SONNET)
    assert run("what_if", *since, "--unpriced") == ""
    for bad in (["--customer", "Nobody"], ["--until", "2026-10-01"]):
        with pytest.raises(CommandError):
            run("reprice", *since, "--reason", "x", *bad)
