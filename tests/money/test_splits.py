"""The cost of each category of a call's tokens: the parts are always the whole, to the last digit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from messages_api.answer.metering import Iteration, Reading
from messages_api.answer.settlement import added, at_least, bill, owed, owed_split
from tests.support.asked_arbiter import arbiter, cast_with_credentials
from tests.support.ledger_rows import START, Cast, empty_ledger, make_cast, make_entry
from usage import own_prices, repricing, splits
from usage.models import Adjustment, LedgerEntry, Price
from usage.pricing import build, load_price_book
from usage.rates import ModelPrice
from usage.repricing import Prices
from usage.splits import CATEGORIES
from usage.tokens import TokenCounts

NOW = datetime(2026, 11, 30, tzinfo=UTC)
LIST = build([]).price("anthropic", "claude-opus-5-5", NOW)
SPLIT = [Decimal("0.001"), Decimal("0.0005")]
# With an own price of many decimal places, half of it and a tenth more has more than the ledger's twelve.
rates = some.decimals("0", "999", places=9, allow_nan=False)
counts = some.builds(TokenCounts, *(some.integers(0, 2_000_000) for _ in range(6)), some.integers(0, 20))
modes = some.fixed_dictionaries(
    {
        "speed": some.sampled_from(["", "fast"]),
        "service_tier": some.sampled_from(["standard", "batch"]),
        "inference_geo": some.sampled_from(["", "us"]),
    }
)


@some.composite
def prices(draw: Any) -> ModelPrice:
    """A price that was typed by hand, with one for the owner or without."""

    def one(version: str) -> ModelPrice:
        return replace(
            LIST,
            **{name: draw(rates) for name in ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")},
            tiers=(),
            web_search=draw(rates),
            flat=draw(rates),
            version=version,
        )

    return replace(one("cost"), charged=one("charge") if draw(some.booleans()) else None)


def billed(steps: list[tuple[TokenCounts, ModelPrice]], mode: dict[str, str]) -> dict[str, Any]:
    """The bill of a call whose steps have these prices."""
    known = {f"model-{number}": price for number, (_, price) in enumerate(steps)}
    return bill(
        [Iteration("message", f"model-{number}", each) for number, (each, _) in enumerate(steps)],
        Reading(usage=mode | {"output_tokens": 1}),
        provider="anthropic",
        model="model-0",
        at=NOW,
        asked=LIST,
        prices=lambda _provider, model, _at: known[model],
    )


def parts(split: list[Decimal] | None) -> dict[str, Decimal]:
    """The categories that cost something."""
    return {name: part for name, part in zip(CATEGORIES, split or (), strict=False) if part}


@given(some.lists(some.tuples(counts, prices()), min_size=1, max_size=4), modes)
def test_the_parts_of_a_bill_are_its_cost_and_its_charge_to_the_last_digit(steps, mode):
    columns = billed(steps, mode)
    assert sum(columns["cost_split"] or ()) == columns["cost"]
    assert sum(owed_split(columns)) == owed(columns)
    assert all(part == part.quantize(Decimal("1e-12")) for part in columns["cost_split"] or ())


@given(counts, prices(), modes)
def test_the_parts_of_a_step_add_up_to_its_cost(used, price, mode):
    assert sum(price.costs(used, **mode)) == price.cost(used, **mode)


def test_each_category_has_its_own_price():
    used = TokenCounts(10, 20, 5, 30, 40, 50, 2)
    split = billed([(used, replace(LIST, flat=Decimal("0.5")))], {})["cost_split"]
    million = Decimal(1_000_000)
    assert parts(split) == {
        "input": LIST.input * 10 / million,
        "output": LIST.output * 20 / million,
        "cache_read": LIST.cache_read * 30 / million,
        "cache_write_5m": LIST.cache_write_5m * 40 / million,
        "cache_write_1h": LIST.cache_write_1h * 50 / million,
        "web_search": LIST.web_search * 2,
        "flat": Decimal("0.5"),
    }


def test_an_answer_that_cost_nothing_has_no_parts():
    assert billed([(TokenCounts(), LIST)], {})["cost_split"] is None


def test_attempts_are_added_up_by_category():
    one = billed([(TokenCounts(input_tokens=10), LIST)], {})
    other = billed([(TokenCounts(output_tokens=10), replace(LIST, charged=LIST.raised(Decimal(2), "x", "")))], {})
    both = added(one, other)
    assert sum(both["cost_split"]) == both["cost"]
    assert sum(both["charge_split"]) == both["charge"] == one["cost"] + other["charge"]


def test_what_an_attempt_costs_at_its_ceiling_besides_its_tokens_is_in_no_category():
    columns = billed([(TokenCounts(input_tokens=10), LIST)], {})
    tokens = columns["cost"]
    at_least(columns, Decimal(1), Decimal("0.5"))
    assert sum(columns["cost_split"]) == sum(columns["charge_split"]) == tokens < columns["cost"]


@pytest.fixture
def cast(apart: str) -> Cast:
    empty_ledger()
    return cast_with_credentials("alice")


@pytest.mark.usefixtures("apart")
def test_the_ledger_keeps_the_parts_of_cost_and_charge(cast: Cast) -> None:
    with arbiter() as link:
        call, _ = link.admit(cast.alice)
        link.settle(
            call, "0.0015", cost_split=SPLIT, charge=Decimal("0.003"), charge_split=[2 * each for each in SPLIT]
        )
    row = LedgerEntry.objects.get()
    assert (row.cost_split, row.charge_split) == (SPLIT, [2 * each for each in SPLIT])
    assert row.owed_split == row.charge_split


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("charge", [None, Decimal("0.0030")])
def test_a_late_settlement_splits_what_the_interrupted_row_could_not(cast: Cast, charge: Decimal | None) -> None:
    charge_split = None if charge is None else [2 * each for each in SPLIT]
    with arbiter() as link:
        call, _ = link.admit(cast.alice)
        assert link.reap() == 1
        link.settle(call, "0.0015", cost_split=SPLIT, charge=charge, charge_split=charge_split)
    row, late = LedgerEntry.objects.get(), Adjustment.objects.get()
    assert row.cost_split is None
    assert late.cost_split == SPLIT
    assert sum(SPLIT) == row.cost + late.cost
    assert sum(late.owed_split) == row.owed + late.owed


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("split", [True, False])
def test_repricing_splits_the_difference_so_that_row_and_adjustment_are_the_new_price(split: bool) -> None:
    empty_ledger()
    used = TokenCounts(input_tokens=1000, output_tokens=300, cache_read_input_tokens=70)
    price = load_price_book().price("anthropic", "claude-opus-5-5", START)
    costs = price.costs(used)
    make_entry(
        make_cast().alice,
        input_tokens=1000,
        output_tokens=300,
        cache_read_input_tokens=70,
        cost=sum(costs),
        cost_split=costs if split else None,
        price_version=price.version,
    )
    changes: dict[str, Any] = {"sets": "charge", "model": "*", "percent": 10, "valid_from": None}
    own_prices.add(Price(**changes))
    repricing.reprice(LedgerEntry.objects.all(), Prices(datetime.now(UTC)), reason="contract", author="finance")
    row, adjustment = LedgerEntry.objects.get(), Adjustment.objects.get()
    new = splits.added(row.owed_split, adjustment.owed_split)
    assert parts(new) == parts([each * Decimal("1.1") for each in costs])
    assert sum(new) == row.owed + adjustment.owed
    assert parts(splits.added(row.cost_split or (), adjustment.cost_split or ())) == parts(costs)
