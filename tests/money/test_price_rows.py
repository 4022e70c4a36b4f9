"""Own prices: which row wins, what it makes of a price, and that no two rows of equal rank apply at once."""

from __future__ import annotations

import importlib
import random
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st

from keys import patterns
from keys.errors import Unusable
from keys.models import Customer, Team
from tests.support import gateway
from tests.support.gateway import CLIENT, Caller, Web, ask, credentials, post
from usage import own_prices, pricing
from usage.models import Budget, Price, Window
from usage.price_rows import CHARGE, COST, Owner, PriceRow
from usage.pricing import PriceBook, UnpricedPolicy
from usage.rates import RATES
from usage.tokens import TokenCounts

NOW = datetime(2026, 11, 30, tzinfo=UTC)
REFUSE = UnpricedPolicy(refuse=True, input=Decimal(30), output=Decimal(150))
OPUS = "claude-opus-5-5"
LISTED = PriceBook((), REFUSE).price("anthropic", OPUS, NOW)
# Alice's key 3 is in team 2 of customer 1.
ALICE = Owner(id=3, team=2, customer=1)
PERCENT = st.decimals(min_value=-100, max_value=10_000, places=4)
RATE = st.decimals(min_value=0, max_value=1000, places=6)
COUNTS = st.builds(TokenCounts, *(st.integers(0, 2_000_000) for _ in range(2)))


def price_row(number: int = 1, **changes: Any) -> PriceRow:
    """A row that adds 20 % to what owners pay for every model."""
    values: dict[str, Any] = {"sets": CHARGE, "provider": "", "model": "*", "valid_from": NOW - timedelta(days=9)}
    return PriceRow(number, **(values | ({} if "rates" in changes else {"percent": Decimal(20)}) | changes))


def book(*rows: PriceRow) -> PriceBook:
    """A price book with these rows, in any order."""
    shuffled = random.Random(len(rows)).sample(rows, len(rows))
    return PriceBook(tuple(sorted(shuffled, key=lambda row: row.order, reverse=True)), REFUSE)


def whole(price: str) -> tuple[tuple[str, Decimal], ...]:
    """The same price for each category of tokens."""
    return tuple((name, Decimal(price)) for name in RATES)


ROWS = st.lists(
    st.builds(
        lambda owner, **values: PriceRow(**values, percent=Decimal(1), **owner),
        owner=st.sampled_from([{}, {}, {"customer": 1}, {"team": 2}, {"key": 3}, {"key": 4}]),
        id=st.integers(1, 10**6),
        sets=st.sampled_from([COST, CHARGE]),
        provider=st.sampled_from(["", "", "anthropic", "bedrock"]),
        model=st.sampled_from(
            ["*", "claude-*", "*-opus*", "claude-opus-*", OPUS, "claude-opus-5.5", "claude-opus-5-5-20260101", "cl*-5"]
        ),
        valid_from=st.integers(0, 6).map(lambda days: NOW + timedelta(days=days)),
        valid_to=st.sampled_from([None, None, NOW + timedelta(days=7), NOW + timedelta(days=9)]),
    ),
    max_size=12,
    unique_by=lambda row: row.id,
)


@given(ROWS)
def test_specificity_is_a_total_order_and_does_not_depend_on_how_rows_are_read(rows: list[PriceRow]) -> None:
    assert len({row.order for row in rows}) == len(rows)
    at = NOW + timedelta(days=8)
    one, other = book(*rows), book(*reversed(rows))
    chosen = one.choose("anthropic", OPUS, at, one.scope(ALICE))
    assert chosen == other.choose("anthropic", OPUS, at, other.scope(ALICE))
    for sets, won in ((COST, chosen.cost_row), (CHARGE, chosen.charge_row)):
        fitting = [row for row in chosen.rows if row.sets == sets and row.in_force(at)]
        assert won == max(fitting, key=lambda row: row.order, default=None)


@given(ROWS, st.integers(0, 10))
def test_of_rows_that_do_not_overlap_none_of_equal_rank_rivals_another(rows: list[PriceRow], days: int) -> None:
    kept: list[PriceRow] = []
    for row in rows:
        if not any(row.clashes(other) for other in kept):
            kept.append(row)
    at = NOW + timedelta(days=days)
    choice = book(*kept).choose("anthropic", OPUS, at, (1, 2, 3))
    fitting = [row for row in choice.rows if row.in_force(at)]
    for place, row in enumerate(fitting):
        for later in fitting[:place]:
            if (row.sets, row.rank) == (later.sets, later.rank):
                # The one that began later has replaced one without an end.
                assert row.valid_from < later.valid_from
                assert row.valid_to is None


@given(ROWS)
def test_whether_two_rows_overlap_does_not_depend_on_which_was_first(rows: list[PriceRow]) -> None:
    for one in rows:
        for other in rows:
            assert one.clashes(other) == other.clashes(one)


def test_the_narrowest_owner_wins_over_any_provider_and_pattern() -> None:
    rows = [
        price_row(1, provider="anthropic", model=OPUS),
        price_row(2, customer=1, provider="anthropic", model=OPUS),
        price_row(3, team=2, model=OPUS),
        price_row(4, key=3),
    ]
    for number in (4, 3, 2, 1):
        prices = book(*rows[:number])
        chosen = prices.choose("anthropic", OPUS, NOW, prices.scope(ALICE)).charge_row
        assert chosen is not None
        assert chosen.id == number
    prices = book(*rows)
    assert prices.price("anthropic", OPUS, NOW, Owner(9, 9, 9)).owed.version.startswith("price 1 on ")


def test_of_patterns_the_longest_literal_part_wins_and_a_named_provider_first() -> None:
    rows = [
        price_row(1, model="claude-opus-5-*"),
        price_row(2, model="*", provider="anthropic"),
        price_row(3, model="claude-*", provider="anthropic"),
    ]
    chosen = book(*rows).choose("anthropic", OPUS, NOW)
    assert [row.id for row in chosen.rows] == [3, 2, 1]


@given(PERCENT, COUNTS)
def test_a_percentage_is_exact_to_the_last_digit(percent: Decimal, used: TokenCounts) -> None:
    price = book(price_row(percent=percent)).price("anthropic", OPUS, NOW)
    assert price.cost(used) == LISTED.cost(used)
    exact = LISTED.cost(used) * (100 + percent) / 100
    assert price.owed.cost(used) == exact.quantize(Decimal("1e-12"))


@given(RATE, COUNTS)
def test_a_price_for_one_category_leaves_the_others(rate: Decimal, used: TokenCounts) -> None:
    price = book(price_row(sets=COST, rates=(("output", rate),))).price("anthropic", OPUS, NOW)
    assert price.charged is None
    assert price.cost(used) == (LISTED.input * used.input_tokens + rate * used.output_tokens) / 1_000_000


def test_a_discount_of_a_contract_holds_for_every_mode() -> None:
    price = book(price_row(sets=COST, percent=Decimal(-15))).price("anthropic", OPUS, NOW)
    used = TokenCounts(input_tokens=1000, output_tokens=10, web_search_requests=2)
    modes: tuple[dict[str, Any], ...] = ({"speed": "fast"}, {"service_tier": "batch"}, {"inference_geo": "us"}, {})
    for mode in modes:
        assert price.cost(used, **mode) == LISTED.cost(used, **mode) * Decimal("0.85")


def test_a_mark_up_is_on_what_the_contract_says() -> None:
    contract, markup = price_row(1, sets=COST, rates=whole("2")), price_row(2)
    price = book(contract, markup).price("anthropic", OPUS, NOW)
    used = TokenCounts(input_tokens=1_000_000)
    assert (price.cost(used), price.owed.cost(used)) == (Decimal(2), Decimal("2.4"))


def test_a_flat_price_of_the_provider_is_marked_up_and_one_for_the_owner_comes_on_top() -> None:
    rows = [price_row(1, sets=COST, percent=None, flat=Decimal("0.01")), price_row(2, flat=Decimal("0.002"))]
    price = book(*rows).price("anthropic", OPUS, NOW)
    assert (price.flat, price.owed.flat) == (Decimal("0.01"), Decimal("0.014"))


def test_a_row_with_an_end_gives_way_to_the_one_before_it() -> None:
    rows = [price_row(1), price_row(2, percent=Decimal(5), valid_from=NOW, valid_to=NOW + timedelta(days=1))]
    prices = book(*rows)
    at = [NOW - timedelta(seconds=1), NOW, NOW + timedelta(days=1)]
    assert [prices.price("anthropic", OPUS, each).owed.version[:7] for each in at] == ["price 1", "price 2", "price 1"]


def test_an_unknown_model_stays_flagged_under_a_mark_up() -> None:
    price = PriceBook((price_row(),), UnpricedPolicy(False, Decimal(30), Decimal(150))).price("echo", "x-1", NOW)
    assert price.flag == "unpriced"
    assert price.owed.input == 36


def test_without_rows_for_owners_all_owners_share_one_price() -> None:
    prices = book(price_row())
    assert prices.price("anthropic", OPUS, NOW, ALICE) is prices.price("anthropic", OPUS, NOW, Owner(9, None, 9))


def test_rows_from_before_keep_their_meaning_by_copies_for_named_providers() -> None:
    migration = importlib.import_module("usage.migrations.0032_price_book")
    name = {"provider": "", "model": OPUS, "input": Decimal(5)}
    pattern = {"provider": "anthropic", "model": "claude-opus-*", "input": Decimal(4)}
    other = {"provider": "bedrock", "model": "x-*", "input": Decimal(3)}
    made = migration.copies([name, pattern, other], patterns.stands_for)
    assert [(row["provider"], row["model"], row["input"]) for row in made] == [("anthropic", OPUS, Decimal(5))]


def new(**changes: Any) -> Price:
    """A mark-up that isn't saved."""
    return Price(**{"sets": "charge", "model": "m-*", "percent": 10, "valid_from": None} | changes)


@pytest.mark.django_db
class TestAdding:
    """Rows of equal rank don't overlap."""

    def test_an_overlap_is_refused_and_the_other_row_is_named(self) -> None:
        ends = datetime.now(UTC) + timedelta(days=9)
        first = new(valid_to=ends)
        own_prices.add(first)
        with pytest.raises(Unusable, match=f"It overlaps price {first.pk}, which has the same rank: charge"):
            own_prices.add(new(percent=20))
        own_prices.add(new(percent=20, valid_from=ends))

    def test_a_row_without_an_end_is_replaced_by_a_later_one(self) -> None:
        own_prices.add(new())
        own_prices.add(new(percent=20, valid_from=datetime.now(UTC) + timedelta(days=1)))

    def test_rows_of_another_rank_or_for_others_do_not_overlap(self) -> None:
        until = {"valid_to": datetime.now(UTC) + timedelta(days=9)}
        customer = Customer.objects.create(name="Acme")
        team = Team.objects.create(customer=customer, name="Research")
        for changes in ({}, {"customer": customer}, {"team": team}, {"provider": "echo"}, {"sets": "cost"}):
            own_prices.add(new(**until, **changes))
        own_prices.add(new(**until, model="m-1*"))
        with pytest.raises(Unusable, match="It overlaps"):
            own_prices.add(new(**until, model="*m-"))

    def test_a_row_ends_and_never_in_the_past(self) -> None:
        price = new()
        own_prices.add(price)
        with pytest.raises(Unusable, match="can't end in the past"):
            own_prices.end(price, datetime.now(UTC) - timedelta(days=3))
        own_prices.end(price)
        with pytest.raises(Unusable, match="has ended already"):
            own_prices.end(price)

    @pytest.mark.parametrize(
        "changes",
        [
            {"percent": None},
            {"input": 1},
            {"percent": -101},
            {"valid_to": datetime(2026, 1, 1, tzinfo=UTC)},
            {"provider": "nobody"},
        ],
    )
    def test_a_row_that_says_nothing_or_too_much_is_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(Unusable):
            own_prices.add(new(**changes))

    def test_a_row_is_for_one_owner(self) -> None:
        customer = Customer.objects.create(name="Acme")
        team = Team.objects.create(customer=customer, name="Research")
        with pytest.raises(Unusable, match="for a customer, a team or a virtual key"):
            own_prices.add(new(customer=customer, team=team))


@pytest.mark.django_db(transaction=True)
def test_one_is_refused_if_two_rows_that_overlap_are_added_at_once() -> None:
    ends, said, begin = datetime.now(UTC) + timedelta(days=9), list[str](), threading.Barrier(2)

    def add() -> None:
        begin.wait()
        try:
            own_prices.add(new(valid_to=ends))
            said.append("added")
        except Unusable as error:
            said.append(str(error)[:11])
        finally:
            connections.close_all()

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["It overlaps", "added"]


def test_a_mark_up_is_held_spent_and_shown_to_the_owner(web: Web, echo_alice: Caller) -> None:
    customer = echo_alice.virtual_key.customer
    budget = Budget.objects.create(team=echo_alice.team, amount=1)
    price = new(customer=customer, model="*", percent=50)
    own_prices.add(price)
    try:
        assert post(web, echo_alice.key, ask(max_tokens=1000)).status_code == 200
        called = gateway.row()
    finally:
        Price.objects.filter(pk=price.pk).delete()
    listed = pricing.load_price_book().price("echo", called.model, called.admitted_at)
    used = TokenCounts(input_tokens=called.input_tokens, output_tokens=called.output_tokens)
    assert called.cost == listed.cost(used) > 0
    assert called.charge == called.cost * Decimal("1.5")
    assert called.price_version.startswith(f"price {price.pk} on ")
    assert called.held > listed.output / 1000 * Decimal("1.5")
    assert Window.objects.get(budget=budget).spent == called.charge
    usage = CLIENT.get(f"{web.url}/v1/usage", headers=credentials(echo_alice.key)).json()
    assert [Decimal(line["cost"]) for line in usage["data"]] == [called.charge]
