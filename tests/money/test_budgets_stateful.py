"""After any steps in any order: no admission takes spent + held over a limit, counters are ledger + holds, and no
call is refused whose worst case fits. It is about what owners pay, which may differ from what the provider charges. The
arbiter is compared with a model of it, under the same clock."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from keys import patterns
from keys.models import Customer, ProviderKey, Team, VirtualKey
from tests.support.asked_arbiter import Arbiter, arbiter, give_credential, settlement
from tests.support.budget_model import Model, Open, Place, models, need, of
from tests.support.gateway import empty
from usage import verification
from usage.arbitration import Admission, ModelShare
from usage.models import Budget, Hold, LedgerEntry, Limit, Window
from usage.request_ids import new_id
from usage.splits import PLACES

pytestmark = pytest.mark.either_server
MODELS = ("claude-opus-5-5", "claude-haiku-5-5")
MONEY = st.decimals(min_value=Decimal("0.000000000001"), max_value=2, places=12)
PICK = st.integers(0, 10**6)
# A budget: whose (a customer's, a team's, a key's, or a key's at a provider key), how much, for how long, for which
# models, how strictly, and whether in tokens.
SPEC = st.tuples(
    PICK,
    st.decimals(min_value=1, max_value=5, places=3),
    st.sampled_from(["hour", "rolling hour", "day", "month", "none"]),
    st.sampled_from([[], [], [], ["claude-opus-*"], ["*haiku*", "x"]]),
    st.sampled_from(["hard", "hard", "hard", "soft"]),
    st.sampled_from([False, False, True]),
)
# The part of what the owner pays that the provider charges; None: both are the same.
FACTOR = st.sampled_from([None, None, "0.8", "1.25", "0"])
# The same few in each run of the suite; `make race` tries others, and a run of thousands finds what hundreds don't.
FEW = 40
EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", FEW))


def paid(owed: Decimal, factor: str | None) -> dict[str, Decimal]:
    """The cost and the charge of a call for which its owner pays this."""
    return {"cost": owed} if factor is None else {"cost": round(owed * Decimal(factor), 12), "charge": owed}


class Machine(RuleBasedStateMachine):
    """Owners, budgets, calls, crashes, and a clock."""

    arbiter: Arbiter

    def __init__(self) -> None:
        super().__init__()
        empty()
        Hold.objects.all().delete()
        self.now = datetime(2026, 11, 30, 22, tzinfo=UTC)
        self.arbiter.set_clock(self.now)
        self.budgets: list[Model] = []
        self.open: dict[UUID, Open] = {}
        self.lost: dict[UUID, Open] = {}
        self.spent: dict[Place, Decimal] = {}
        self.held: dict[Place, Decimal] = {}
        self.excused: set[Place] = set()
        self.overridden: set[int] = set()
        self.batches: dict[UUID, Open] = {}
        self.limit: tuple[int, int] | None = None
        self.refusals = 0

    @initialize(specs=st.lists(SPEC, min_size=3, max_size=5))
    def make_owners(self, specs) -> None:
        customer = Customer.objects.create(name="Acme")
        self.customer = customer.pk
        self.provider_key = ProviderKey.objects.create(name="main", provider="echo").pk
        self.teams = [Team.objects.create(customer=customer, name=name).pk for name in ("Research", "Sales")]
        self.keys = [
            give_credential(VirtualKey.objects.create(name=f"key {n}", customer=customer, team_id=self.teams[n % 2]))
            for n in range(3)
        ]
        self.team_of = {key.pk: self.teams[n % 2] for n, key in enumerate(self.keys)}
        for spec in specs:
            self.make_budget(spec)

    # What administrators do

    @rule(spec=SPEC)
    @precondition(lambda self: len(self.budgets) < 7)
    def make_budget(self, spec) -> None:
        pick, amount, period, only, enforcement, tokens = spec
        owners = [("customer", self.customer), *(("team", t) for t in self.teams)]
        owners += [("virtual_key", key.pk) for key in self.keys]
        kind, owner = owners[pick % len(owners)]
        provider_key = self.provider_key if kind == "virtual_key" and pick % 2 else None
        if tokens:
            amount = (amount * 1000).to_integral_value()
        made = Budget.objects.create(
            amount=0 if period == "none" else amount,
            period=period.removeprefix("rolling "),
            rolling=period.startswith("rolling "),
            provider_key_id=provider_key,
            model_patterns=only,
            enforcement=enforcement,
            unit="tokens" if tokens else "usd",
            thresholds=[50, 100],
            **{f"{kind}_id": owner},
        )
        if period == "none" and amount:
            made.top_up(amount, reason="x", author="y")
        self.budgets.append(Model(made.pk, (kind, owner), amount, period, only, enforcement, tokens, provider_key))

    @rule(pick=PICK, amount=st.decimals(min_value=0, max_value=6, places=3))
    @precondition(lambda self: any(b.period != "none" for b in self.budgets))
    def change_amount(self, pick, amount) -> None:
        changeable = [b for b in self.budgets if b.period != "none"]
        budget = changeable[pick % len(changeable)]
        if amount < budget.amount:
            self.excused.add(budget.window(self.now))
        budget.amount = amount
        Budget.objects.filter(pk=budget.pk).update(amount=amount)

    @rule(pick=PICK, amount=st.integers(-2, 3))
    @precondition(lambda self: any(b.period == "none" for b in self.budgets))
    def top_up(self, pick, amount) -> None:
        prepaid = [b for b in self.budgets if b.period == "none"]
        budget = prepaid[pick % len(prepaid)]
        more = Decimal(amount * 1000 if budget.tokens else amount)
        if more and budget.amount + more >= 0:
            Budget.objects.get(pk=budget.pk).top_up(more, reason="x", author="y")
            budget.amount += more
            if more < 0:
                self.excused.add(budget.window(self.now))

    @rule(pick=PICK, amount=st.integers(0, 6), minutes=st.sampled_from([30, 60 * 24]))
    @precondition(lambda self: self.budgets)
    def override(self, pick, amount, minutes) -> None:
        budget = self.budgets[pick % len(self.budgets)]
        other = Decimal(amount * 1000 if budget.tokens else amount)
        until = self.now + timedelta(minutes=minutes)
        Budget.objects.get(pk=budget.pk).override(other, until=until, reason="x", author="y")
        # It may be less than is held now, and so may the amount that comes after it.
        self.excused.add(budget.window(self.now))
        budget.overrides.append((until, other))
        self.overridden.add(budget.pk)

    @rule(pick=PICK)
    @precondition(lambda self: self.budgets)
    def delete_budget(self, pick) -> None:
        budget = self.budgets[pick % len(self.budgets)]
        budget.deleted = True
        Budget.objects.get(pk=budget.pk).delete_softly()

    @rule(pick=PICK)
    def move_key(self, pick) -> None:
        key, team = self.keys[pick % 3], self.teams[pick % 2]
        VirtualKey.objects.filter(pk=key.pk).update(team_id=team)
        self.team_of[key.pk] = team

    @rule(most=st.integers(1, 3))
    @precondition(lambda self: self.limit is None and not self.open)
    def limit_calls_at_once(self, most) -> None:
        made = Limit.objects.create(kind="parallel", rate=most, customer_id=self.customer)
        self.limit = (made.pk, most)

    @rule(minutes=st.sampled_from([1, 59, 119, 60 * 24]))
    def time_passes(self, minutes) -> None:
        self.now += timedelta(minutes=minutes)
        self.arbiter.set_clock(self.now)

    # What callers do

    def needs(self, key: int, call: Admission) -> dict[Place, tuple[Decimal, Model]]:
        """Where a call must fit, and how much of it."""
        owners = {("customer", self.customer), ("team", self.team_of[key]), ("virtual_key", key)}
        return {
            b.window(self.now): (need(call, b), b)
            for b in self.budgets
            if not b.deleted
            and b.owner in owners
            and b.provider_key in (None, call.provider_key)
            and (not b.patterns or any(patterns.matches(b.patterns, model) for model in models(call)))
        }

    def room(self, place: Place, budget: Model) -> Decimal:
        return budget.allowed(self.now) - self.spent.get(place, Decimal(0)) - self.held.get(place, Decimal(0))

    def judge(self, key: int, call: Admission) -> str:
        """The verdict as it must be; what is admitted is held."""
        needs = self.needs(key, call)
        if any(b.enforcement == "hard" and need > self.room(place, b) for place, (need, b) in needs.items()):
            self.refusals += 1
            return "budget"
        if self.limit and sum(each.limited for each in self.open.values()) >= self.limit[1]:
            return "limit"
        for place, (needed, budget) in needs.items():
            self.held[place] = self.held.get(place, Decimal(0)) + needed
            if budget.rolling and place[1] not in budget.begun:
                budget.begun.append(place[1])
            if budget.enforcement == "soft":
                self.excused.add(place)
        held = {place: need for place, (need, _) in needs.items()}
        self.open[call.id] = Open(call, held, self.limit is not None)
        return "admitted"

    def tokens(self, place: Place) -> bool:
        return next(b.tokens for b in self.budgets if b.pk == place[0])

    def end(self, done: Open, cost: Decimal, tokens: int) -> None:
        """The part of the hold that was needed is spent."""
        for place, held in done.held.items():
            spent = Decimal(tokens) if self.tokens(place) else cost
            self.held[place] -= held
            self.spent[place] = self.spent.get(place, Decimal(0)) + spent
            done.spent[place] = spent
            if spent > held:
                self.excused.add(place)

    @rule(
        asked=st.lists(
            st.tuples(PICK, MONEY, st.integers(0, 2000), st.sampled_from(MODELS), st.booleans()), min_size=1, max_size=6
        ),
        settled=st.lists(st.tuples(PICK, st.sampled_from([0, "0.1", "0.5", 1, 1, "1.5"]), FACTOR), max_size=3),
        released=st.lists(PICK, max_size=1),
        factor=FACTOR,
    )
    def group(self, asked, settled, released, factor) -> None:
        settlements, releases = [], []
        for pick, share, part in settled:
            if self.open:
                done = self.open.pop(list(self.open)[pick % len(self.open)])
                cost = round(done.call.ceiling * Decimal(share), 12)
                tokens = int((done.call.input_ceiling + done.call.max_tokens) * Decimal(share))
                settlements.append(settlement(done.call, **paid(cost, part), input_tokens=tokens, output_tokens=0))
                self.end(done, cost, tokens)
        for pick in released:
            if self.open:
                gone = self.open.pop(list(self.open)[pick % len(self.open)])
                releases.append(gone.call.id)
                for place, held in gone.held.items():
                    self.held[place] -= held
        calls = [
            self.arbiter.ask(
                self.keys[pick % 3],
                ceiling,
                max_tokens=most,
                requested_model=model,
                provider_key=self.provider_key if there else None,
                cost_factor=factor and Decimal(factor),
            )
            for pick, ceiling, most, model, there in asked
        ]
        expected = [self.judge(self.keys[pick % 3].pk, call) for (pick, *_), call in zip(asked, calls, strict=True)]
        assert self.arbiter.group(calls, settlements, releases) == expected

    @rule(pick=PICK, shares=st.lists(st.tuples(MONEY, st.integers(1, 2000)), min_size=2, max_size=2))
    def make_batch(self, pick, shares) -> None:
        parts = {model: ModelShare(*share) for model, share in zip(MODELS, shares, strict=True)}
        call = self.arbiter.ask(
            self.keys[pick % 3],
            sum(share.ceiling for share in parts.values()),
            requested_model="",
            shares=parts,
            input_tokens=0,
            input_ceiling=0,
            max_tokens=sum(share.tokens for share in parts.values()),
            expires_seconds=3600,
        )
        limited, self.limit = self.limit, None  # it doesn't count as a parallel call
        verdict = self.judge(self.keys[pick % 3].pk, call)
        self.limit = limited
        assert self.arbiter.group([call]) == [verdict]
        if verdict == "admitted":
            self.batches[call.id] = self.open.pop(call.id)
            opened = msgspec.json.encode(settlement(call, 0, input_tokens=0, output_tokens=0)).decode()
            assert self.arbiter.one("SELECT usage_open(%s::jsonb)", opened)

    @rule(
        pick=PICK,
        share=st.sampled_from(["0.1", "0.5", 1, "1.5"]),
        model=st.sampled_from(MODELS),
        last=st.booleans(),
        factor=FACTOR,
    )
    @precondition(lambda self: self.batches)
    def settle_part(self, pick, share, model, last, factor) -> None:
        batch = list(self.batches.values())[pick % len(self.batches)]
        part = batch.call.shares[model]
        cost, tokens = round(part.ceiling * Decimal(share), 12), int(part.tokens * Decimal(share))
        amounts = paid(cost, factor)
        line = msgspec.to_builtins(settlement(batch.call, **amounts, model=model, input_tokens=tokens, output_tokens=0))
        line |= {"part": str(new_id()), "id": None, "ended_at": self.now.isoformat()}
        encoded = msgspec.json.encode([line]).decode()
        assert self.arbiter.one("SELECT usage_settle_parts(%s, %s::jsonb, %s)", batch.call.id, encoded, last) == 1
        for place, held in batch.held.items():
            budget = next(b for b in self.budgets if b.pk == place[0])
            spent = (Decimal(tokens) if budget.tokens else cost) if of(budget, model) else Decimal(0)
            freed = held if last else min(held, spent)
            self.spent[place] = self.spent.get(place, Decimal(0)) + spent
            self.held[place] -= freed
            batch.held[place] -= freed
            if spent > freed:
                self.excused.add(place)
        if last:
            del self.batches[batch.call.id]

    @rule(pick=PICK)
    @precondition(lambda self: self.batches)
    def expire(self, pick) -> None:
        batch = self.batches.pop(list(self.batches)[pick % len(self.batches)])
        self.arbiter.link.execute(
            "UPDATE usage_hold SET expires_at = clock_timestamp() - interval '1 s' WHERE id = %s", [batch.call.id]
        )
        assert self.arbiter.one("SELECT usage_expire()") == 1
        for place, held in batch.held.items():
            self.held[place] -= held
            self.spent[place] = self.spent.get(place, Decimal(0)) + held

    @rule()
    @precondition(lambda self: self.open)
    def crash(self) -> None:
        assert self.arbiter.reap() == len(self.open)
        rows = {row.id: row for row in LedgerEntry.objects.filter(pk__in=list(self.open))}
        for call, lost in self.open.items():
            row = rows[call]
            if (factor := lost.call.cost_factor) is not None:
                # PostgreSQL rounds halves away from zero, Python to even digits.
                assert row.cost == (row.owed * factor).quantize(PLACES, ROUND_HALF_UP)
            for place in lost.held:
                spent = Decimal(row.input_tokens + row.output_tokens) if self.tokens(place) else row.owed
                if spent > lost.held[place]:
                    self.excused.add(place)
                self.held[place] -= min(spent, lost.held[place])
                lost.held[place] = max(Decimal(0), lost.held[place] - spent)
                self.spent[place] = self.spent.get(place, Decimal(0)) + spent
                lost.spent[place] = spent
        self.lost |= self.open
        self.open.clear()

    @rule(pick=PICK, share=st.sampled_from([0, "0.3", 1]), factor=FACTOR)
    @precondition(lambda self: self.lost)
    def settle_late(self, pick, share, factor) -> None:
        late = self.lost.pop(list(self.lost)[pick % len(self.lost)])
        cost = round(late.call.ceiling * Decimal(share), 12)
        self.arbiter.group(settlements=[settlement(late.call, **paid(cost, factor), input_tokens=100, output_tokens=7)])
        for place, retained in late.held.items():
            spent = Decimal(107) if self.tokens(place) else cost
            self.held[place] -= retained
            self.spent[place] += spent - late.spent[place]
            self.excused.add(place)

    @rule(pick=PICK)
    @precondition(lambda self: self.lost)
    def give_back(self, pick) -> None:
        lost = self.lost[list(self.lost)[pick % len(self.lost)]]
        self.arbiter.one("SELECT usage_give_back(ARRAY[%s]::uuid[], NULL)", lost.call.id)
        for place, retained in lost.held.items():
            self.held[place] -= retained
            lost.held[place] = Decimal(0)

    @rule()
    def settle_what_nobody_knows(self) -> None:
        call = self.arbiter.ask(self.keys[0], 1, id=new_id())
        self.arbiter.group(settlements=[settlement(call)])

    # What must be true

    @invariant()
    def counters_are_ledger_and_holds_and_what_the_model_says(self) -> None:
        for place, (spent, held) in self.arbiter.counters().items():
            assert spent == self.spent.get(place, 0), place
            assert held == self.held.get(place, 0), place

    @invariant()
    def no_limit_is_passed(self) -> None:
        for budget in self.budgets:
            if not budget.deleted:
                for window in Window.objects.filter(budget_id=budget.pk):
                    place = (budget.pk, window.start)
                    excused = place in self.excused or budget.pk in self.overridden
                    if not excused and place == budget.window(self.now):
                        assert window.spent + window.held <= budget.allowed(self.now)

    @invariant()
    def only_admitted_calls_begin_rolling_windows(self) -> None:
        for budget in self.budgets:
            if budget.rolling:
                starts = Window.objects.filter(budget_id=budget.pk).values_list("start", flat=True)
                assert sorted(starts) == sorted(budget.begun)

    def teardown(self) -> None:
        assert verification.verify() == []
        self.arbiter.link.execute("DELETE FROM usage_hold")


@pytest.mark.long
def test_after_any_steps_counters_are_exact_and_no_limit_is_passed(apart):
    with arbiter() as asked:
        Machine.arbiter = asked
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=40,
                deadline=None,
                derandomize=EXAMPLES == FEW,
                suppress_health_check=list(HealthCheck),
            ),
        )
