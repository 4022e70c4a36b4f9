"""`manage.py verify_ledger`: recomputes counters while calls are admitted and settled."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.management import call_command

from tests.support.asked_arbiter import arbiter, cast_with_credentials
from tests.support.gateway import admin_connection
from tests.support.ledger_rows import make_entry
from usage import verification
from usage.models import Budget, Limit, LimitState, Window

pytestmark = pytest.mark.either_server


@pytest.fixture
def cast(apart):
    return cast_with_credentials("alice", "bob")


@pytest.fixture
def asked(cast):
    with arbiter() as asked:
        yield asked


def use(asked, key):
    """A call that is settled, one that is open, and one whose process died."""
    asked.admit(key, "0.5")
    asked.reap()
    call, verdict = asked.admit(key, "0.5")
    assert verdict == "admitted"
    asked.settle(call, "0.123456789012")
    asked.admit(key, "0.25")


def test_counters_are_what_ledger_and_holds_say(asked, cast, capsys, monkeypatch):
    monkeypatch.setattr(verification, "PART", 1)
    monkeypatch.setattr(verification, "WINDOWS", 1)
    for owner in ({"team": cast.alice.team}, {"customer": cast.alice.customer}, {"virtual_key": cast.bob}):
        Budget.objects.create(amount=10, **owner)
    Budget.objects.create(amount=10_000, unit="tokens", team=cast.alice.team)
    Limit.objects.create(kind="parallel", rate=100, team=cast.alice.team)
    for key in (cast.alice, cast.bob):
        use(asked, key)
    assert verification.verify() == []
    call_command("verify_ledger")
    assert "Every counter" in capsys.readouterr().out


def test_every_wrong_counter_is_found(asked, cast, capsys):
    made = Budget.objects.create(amount=10, team=cast.alice.team)
    prepaid = Budget.objects.create(period="none", team=cast.alice.team)
    prepaid.top_up(Decimal(10), reason="invoice", author="finance")
    Limit.objects.create(kind="parallel", rate=100, team=cast.alice.team)
    use(asked, cast.alice)
    Window.objects.filter(budget=made).update(spent=1, held=2)
    LimitState.objects.update(running=7)
    Budget.objects.filter(pk=prepaid.pk).update(amount=11)
    found = [str(difference) for difference in verification.verify()]
    assert len(found) == 4
    assert "spent: counted 1.000000000000, derived" in found[0]
    assert "held: counted 2.000000000000, derived" in found[1]
    assert "calls at once: counted 7, derived 1" in found[2]
    assert "prepaid: counted 11.000000000000, derived 10.000000000000" in found[3]
    with pytest.raises(SystemExit) as stopped:
        call_command("verify_ledger")
    assert stopped.value.code == 1
    assert capsys.readouterr().out.count("counted") == 4


def test_a_difference_says_whose_it_is(asked, cast):
    made = Budget.objects.create(amount=10, team=cast.alice.team)
    limit = Limit.objects.create(kind="parallel", rate=100, virtual_key=cast.alice)
    asked.admit(cast.alice, "0.5")
    Window.objects.update(held=2)
    LimitState.objects.all().delete()
    held, running = map(str, verification.verify())
    assert held.startswith(f"budget {made.pk} ($10 a month for team Ours / Research), window from ")
    whose = f"limit {limit.pk} (100 calls at once for virtual key alice of Ours / Research)"
    assert running == f"{whose}, calls at once: counted 0, derived 1"


def test_where_nothing_is_counted_yet_it_says_so(asked, cast, capsys):
    asked.admit(cast.alice, "0.5")
    call_command("verify_ledger")
    assert capsys.readouterr().out == "There is no counter to verify: no call has used a budget or a limit yet.\n"


@pytest.mark.parametrize("charge", ["(,,0.5,f)", "(7,,0.5,f)", '(7,"2026-11-01 00:00:00+00",,f)'])
def test_a_row_without_charges_is_verified_without_a_crash(asked, cast, charge):
    asked.settle(asked.admit(cast.alice, "0.5")[0])
    make_entry(cast.alice, charges=f"{{{json.dumps(charge)}}}")
    found = [str(difference) for difference in verification.verify()]
    assert len(found) == ("0.5" in charge)
    assert all("no window from None, spent: counted 0, derived 0.5" in each for each in found)


@pytest.mark.parametrize("another_writes", [False, True])
def test_a_window_that_is_missing_is_found(asked, cast, another_writes):
    Budget.objects.create(amount=10, team=cast.alice.team)
    with admin_connection() as link:
        if another_writes:
            # Nothing that is written after this counts as ended.
            link.execute("BEGIN")
            link.execute("SELECT pg_current_xact_id()")
        call, _ = asked.admit(cast.alice, "0.5")
        asked.settle(call, "0.25")
        asked.admit(cast.alice, "0.125")
        Window.objects.all().delete()
        spent, held = verification.verify()
    assert isinstance(spent, verification.Difference)
    assert isinstance(held, verification.Difference)
    assert (spent.counted, spent.derived) == (Decimal(0), Decimal("0.25"))
    assert (held.counted, held.derived) == (Decimal(0), Decimal("0.125"))


def test_it_is_exact_while_calls_come_and_go(cast, monkeypatch):
    monkeypatch.setattr(verification, "PART", 20)
    Budget.objects.create(amount=10**6, team=cast.alice.team)
    Budget.objects.create(amount=10**6, customer=cast.alice.customer, period="minute")
    over = threading.Event()
    done = []

    def call():
        with arbiter() as asked:
            while not over.is_set():
                calls = [asked.ask(cast.alice, "0.5") for _ in range(3)]
                asked.group(calls)
                for each in calls:
                    asked.settle(each, "0.1")
                done.append(len(calls))

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        while sum(done) <= 100:
            assert verification.verify() == []
        for _ in range(20):
            assert verification.verify() == []
    finally:
        over.set()
        for caller in callers:
            caller.join()
    assert Window.objects.filter(start__lte=datetime.now(UTC)).exists()
