"""What the provider charges and what the owner pays are two amounts: budgets count the second, and people who pay see
it."""

from __future__ import annotations

import io
from csv import DictReader
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from messages_api.answer.metering import Iteration, Reading
from messages_api.answer.settlement import added, at_least, bill
from tests.support.asked_arbiter import Arbiter, arbiter, cast_with_credentials, settlement
from tests.support.ledger_rows import empty_ledger, make_cast, make_entry
from usage import export, owner_days, rollups, verification
from usage.models import OWED, Adjustment, Budget, LedgerEntry, Overrun, Rollup, Window
from usage.pricing import build
from usage.rates import ModelPrice
from usage.tokens import TokenCounts

NOW = datetime(2026, 11, 30, tzinfo=UTC)
LIST = build([]).price("anthropic", "claude-opus-5-5", NOW)
NOVEMBER = {"since": "2026-11-01", "until": "2026-11-30"}


def for_owner(factor: str, flat: str = "0") -> ModelPrice:
    """The list price, at which the provider charges us, with what an owner pays."""
    charged = replace(LIST.raised(Decimal(factor), "charge price 7", ""), flat=Decimal(flat))
    return replace(LIST, charged=charged)


def billed(price: ModelPrice, *counts: TokenCounts, reading: Reading | None = None) -> dict[str, Any]:
    """The bill of a call with these steps."""
    steps = [Iteration("message", "", each) for each in counts]
    return bill(
        steps,
        reading or Reading(usage={"output_tokens": 1}),
        provider="anthropic",
        model="claude-opus-5-5",
        at=NOW,
        asked=price,
        prices=lambda *_: price,
    )


def test_without_a_price_for_the_owner_a_bill_has_no_charge_of_its_own():
    columns = billed(LIST, TokenCounts(input_tokens=1000))
    assert (columns["cost"], columns["charge"]) == (LIST.input / 1000, None)


def test_an_owner_pays_the_owners_price_to_the_last_digit():
    columns = billed(for_owner("1.123456"), TokenCounts(input_tokens=7, output_tokens=3), TokenCounts(output_tokens=1))
    exact = (LIST.input * 7 + LIST.output * 4) / 1_000_000
    assert columns["cost"] == exact
    assert columns["charge"] == exact * Decimal("1.123456")
    assert columns["price_version"] == "charge price 7"


def test_a_flat_price_is_paid_once_for_a_request_however_many_steps_it_has():
    counts = TokenCounts(input_tokens=10)
    columns = billed(for_owner("1", "0.01"), counts, counts)
    assert columns["charge"] - columns["cost"] == Decimal("0.01")


def test_a_request_that_used_nothing_has_no_flat_price():
    assert billed(for_owner("1", "0.01"), TokenCounts())["charge"] == 0


def test_the_bill_of_two_attempts_has_both_charges():
    one = billed(for_owner("2"), TokenCounts(input_tokens=1000))
    other = billed(LIST, TokenCounts(input_tokens=1000))
    both = added(one, other)
    assert both["cost"] == 2 * LIST.input / 1000
    assert both["charge"] == 3 * LIST.input / 1000
    assert added(other, other)["charge"] is None


def test_an_attempt_at_its_ceiling_costs_the_providers_part_of_it():
    columns = billed(for_owner("2"), TokenCounts(input_tokens=1))
    at_least(columns, Decimal("0.5"), Decimal("0.5"))
    assert (columns["cost"], columns["charge"]) == (Decimal("0.25"), Decimal("0.5"))


@pytest.fixture
def asked(apart):
    with arbiter() as link:
        yield link


@pytest.mark.usefixtures("apart")
class TestBudgets:
    """Budgets count what owners pay."""

    @pytest.fixture(autouse=True)
    def _budget(self, apart: str, asked: Arbiter) -> None:
        empty_ledger()
        self.asked = asked
        self.alice = cast_with_credentials("alice").alice
        self.budget = Budget.objects.create(amount=1, period="month", virtual_key=self.alice)

    def spent(self) -> Decimal:
        return Window.objects.get(budget=self.budget).spent

    def test_a_call_spends_what_its_owner_pays(self):
        call, _ = self.asked.admit(self.alice, "0.5", cost_factor=Decimal("0.5"))
        self.asked.group(settlements=[settlement(call, "0.1", charge=Decimal("0.2"))])
        row = LedgerEntry.objects.get(pk=call.id)
        assert (row.cost, row.owed, self.spent()) == (Decimal("0.1"), Decimal("0.2"), Decimal("0.2"))
        assert verification.verify() == []

    def test_a_charge_above_the_hold_is_an_overrun_and_a_cost_is_none(self):
        inside, _ = self.asked.admit(self.alice, "0.2")
        above, _ = self.asked.admit(self.alice, "0.2")
        self.asked.group(
            settlements=[
                settlement(inside, "0.3", charge=Decimal("0.1")),
                settlement(above, "0.1", charge=Decimal("0.3")),
            ]
        )
        assert list(Overrun.objects.values_list("call", "cost")) == [(above.id, Decimal("0.3"))]

    def test_an_interrupted_call_is_estimated_in_both_and_settled_late_in_both(self):
        call, _ = self.asked.admit(self.alice, "0.5", cost_factor=Decimal("0.8"))
        assert self.asked.reap() == 1
        row = LedgerEntry.objects.get(pk=call.id)
        assert row.cost == round(row.owed * Decimal("0.8"), 12) > 0
        self.asked.group(settlements=[settlement(call, "0.004", charge=Decimal("0.005"))])
        late = Adjustment.objects.get(entry_id=call.id)
        assert (row.cost + late.cost, row.owed + late.owed) == (Decimal("0.004"), Decimal("0.005"))
        assert self.spent() == Decimal("0.005")
        assert verification.verify() == []

    def test_an_adjustment_moves_budgets_by_its_charge(self):
        call, _ = self.asked.admit(self.alice, "0.5")
        self.asked.group(settlements=[settlement(call, "0.1", charge=Decimal("0.2"))])
        Adjustment.objects.create(entry_id=call.id, reason="correction", cost=Decimal("0.01"), charge=Decimal("-0.05"))
        assert self.spent() == Decimal("0.15")
        assert verification.verify() == []


@pytest.mark.django_db(transaction=True)
class TestReports:
    """Who may see prices sees both amounts where they differ; others see what owners pay."""

    @pytest.fixture(autouse=True)
    def _cast(self, db):
        empty_ledger()
        self.cast = make_cast()

    def read(self, client, *permissions: str) -> list[dict[str, str]]:
        user = User.objects.create_user("finance", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(codename__in=["view_rollup", "export_rollup", *permissions])
        )
        client.force_login(user)
        answer = client.get("/admin/usage/report/", NOVEMBER | {"group": "key", "format": "csv"})
        return list(DictReader(io.StringIO(answer.getvalue().decode("utf-8-sig"))))

    def test_roll_ups_sum_both_and_an_owners_days_what_the_owner_pays(self):
        make_entry(self.cast.alice, cost="0.1", charge="0.3")
        call = make_entry(self.cast.alice, cost="0.1")
        Adjustment.objects.create(entry_id=call, reason="correction", cost=Decimal("0.01"))
        rollups.roll_up()
        cell = Rollup.objects.get()
        assert (cell.cost, cell.charge) == (Decimal("0.21"), Decimal("0.41"))
        assert owner_days.OwnerDay.objects.get(owner=self.cast.alice.pk * 4 + 2).cost == Decimal("0.41")

    def test_what_is_added_to_a_cell_from_before_there_were_charges_is_exact(self):
        make_entry(self.cast.alice, cost="0.1")
        rollups.roll_up()
        Rollup.objects.update(charge=None)
        make_entry(self.cast.alice, cost="0.1", charge="0.2")
        rollups.roll_up()
        assert Rollup.objects.values_list("cost", OWED).get() == (Decimal("0.2"), Decimal("0.3"))

    def test_finance_sees_both_amounts(self, client):
        make_entry(self.cast.alice, cost="0.1", charge="0.3")
        rollups.roll_up()
        [line] = self.read(client, "view_price")
        assert (line["Cost, USD"], line["Charge, USD"]) == ("0.1", "0.3")

    def test_people_who_may_not_see_prices_see_what_owners_pay(self, client):
        make_entry(self.cast.alice, cost="0.1", charge="0.3")
        rollups.roll_up()
        [line] = self.read(client)
        assert line["Cost, USD"] == "0.3"
        assert "Charge, USD" not in line

    @pytest.mark.parametrize(("charge", "shown"), [(None, ["Cost"]), ("0.3", ["Cost", "Charge"])])
    def test_without_a_difference_the_page_shows_one_amount(self, client, charge, shown):
        make_entry(self.cast.alice, cost="0.1", charge=charge)
        self.read(client, "view_price")
        heads = client.get("/admin/usage/report/", NOVEMBER).context["table"].heads
        assert [head.title for head in heads if head.unit == "USD"] == shown

    def test_an_export_has_both(self):
        make_entry(self.cast.alice, cost="0.1", charge="0.3")
        [row] = export.read(export.Range())
        assert (row["cost"], row["charge"]) == (Decimal("0.1"), Decimal("0.3"))
