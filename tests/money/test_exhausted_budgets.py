"""Budgets that refuse a call alert once a window: asked of the arbiter itself (tests/support/asked_arbiter.py), and
over the wire."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.urls import reverse

from keys import keyring
from keys.models import Customer
from tests.support.asked_arbiter import arbiter, cast_with_credentials, later
from tests.support.batch_provider import BatchProvider
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, MODEL, ask, credentials, issue, post, refused
from usage import tasks, verification
from usage.arbitration import ModelShare
from usage.models import Alert, AlertTarget, Budget, Limit, Window
from usage.standing import with_standing

pytestmark = pytest.mark.either_server

NOVEMBER = datetime(2026, 11, 17, 12, tzinfo=UTC)
HAIKU = "claude-haiku-4-5"


@pytest.fixture
def cast(apart):
    return cast_with_credentials("alice", "bob", "charlie")


@pytest.fixture
def asked(cast):
    with arbiter() as asked:
        asked.set_clock(NOVEMBER)
        yield asked


def exhausted(**of):
    """The alerts of budgets that refuse, the oldest first."""
    return Alert.objects.filter(budget__isnull=False, threshold=0, **of).order_by("pk")


@pytest.mark.parametrize("enforcement", ["hard", "expected"])
@pytest.mark.parametrize("owner", ["customer", "team", "virtual_key"])
def test_the_first_refusal_of_a_window_alerts_and_the_next_ones_do_not(asked, cast, owner, enforcement):
    owners = {"customer": cast.alice.customer, "team": cast.alice.team, "virtual_key": cast.alice}
    budget = Budget.objects.create(amount=1, period="day", enforcement=enforcement, **{owner: owners[owner]})
    call, _ = asked.admit(cast.alice, "0.9")
    asked.settle(call, "0.87")
    held, _ = asked.admit(cast.alice, "0.05")
    assert not exhausted().exists()
    assert [asked.admit(cast.alice, need)[1] for need in ("0.2", "0.3")] == ["budget", "budget"]
    alert = exhausted().get()
    assert (alert.budget_id, alert.start, alert.at) == (budget.pk, Window.objects.get().start, NOVEMBER)
    assert (alert.spent, alert.held, alert.needed, alert.amount) == tuple(map(Decimal, ("0.87", "0.05", "0.2", "1")))
    asked.settle(held, 0)
    asked.set_clock(later(NOVEMBER, days=1))
    asked.admit(cast.alice, 1)
    asked.admit(cast.alice, 1)
    assert [alert.at for alert in exhausted()] == [NOVEMBER, later(NOVEMBER, days=1)]


@pytest.mark.parametrize(
    ("terms", "call"),
    [
        ({"unit": "tokens", "amount": 1300}, {}),
        ({"model_patterns": ["claude-opus-*"]}, {}),
        ({}, {"endpoint": "batches", "expires_seconds": 86_400}),
        (
            {"model_patterns": ["claude-haiku-*"]},
            {
                "requested_model": "",
                "expires_seconds": 86_400,
                "shares": {HAIKU: ModelShare(Decimal("0.6"), 100), MODEL: ModelShare(Decimal("0.1"), 100)},
            },
        ),
    ],
    ids=["tokens", "by model", "a batch", "a batch of several models"],
)
def test_budgets_and_calls_of_every_kind_alert(asked, cast, terms, call):
    budget = Budget.objects.create(**{"team": cast.alice.team, "amount": "0.7"} | terms)
    assert [asked.admit(cast.alice, "0.7", **call)[1] for _ in range(3)] == ["admitted", "budget", "budget"]
    assert [alert.budget_id for alert in exhausted()] == [budget.pk]


def test_what_refuses_nothing_does_not_alert(asked, cast):
    Budget.objects.create(team=cast.alice.team, amount=0, enforcement="soft", thresholds=[100])
    Budget.objects.create(team=cast.alice.team, amount=0, model_patterns=["claude-haiku-*"])
    Budget.objects.create(customer=cast.charlie.customer, amount=0)
    Budget.objects.create(virtual_key=cast.alice, amount=1)
    Limit.objects.create(team=cast.alice.team, kind="parallel", rate=1)
    assert [asked.admit(cast.alice, "0.5")[1] for _ in range(2)] == ["admitted", "limit"]
    assert not exhausted().exists()


def test_every_budget_that_refuses_a_call_alerts_and_not_only_the_one_that_is_named(asked, cast):
    for terms in ({"customer": cast.alice.customer}, {"team": cast.alice.team}, {"virtual_key": cast.alice}):
        Budget.objects.create(amount=1, **terms)
    roomy = Budget.objects.create(amount=10, period="day", team=cast.alice.team)
    assert [asked.admit(cast.alice, 1)[1] for _ in range(2)] == ["admitted", "budget"]
    assert exhausted().count() == 3
    assert not exhausted(budget=roomy).exists()


def test_of_a_group_the_first_call_that_is_refused_counts(asked, cast):
    Budget.objects.create(amount=1, team=cast.alice.team)
    calls = [asked.ask(cast.alice, ceiling) for ceiling in ("0.85", "0.5", "0.125", "0.1")]
    assert asked.group(calls) == ["admitted", "budget", "admitted", "budget"]
    alert = exhausted().get()
    assert (alert.spent, alert.held, alert.needed) == (0, Decimal("0.85"), Decimal("0.5"))


def test_a_prepaid_balance_alerts_again_after_each_top_up(asked, cast):
    budget = Budget.objects.create(period="none", customer=cast.alice.customer)
    for expected in (1, 2):
        for _ in range(2):
            assert asked.admit(cast.alice, 2)[1] == "budget"
            assert exhausted().count() == expected
        budget.top_up(Decimal(1), reason="invoice", author="finance")
        assert asked.admit(cast.alice, 1)[1] == "admitted"
    budget.top_up(Decimal("-0.5"), reason="credit note", author="finance")
    asked.admit(cast.alice, 2)
    budget.top_up(Decimal("-0.5"), reason="credit note", author="finance")
    asked.admit(cast.alice, 2)
    assert exhausted().count() == 3


def test_a_rolling_budget_alerts_once_in_each_window(asked, cast):
    Budget.objects.create(amount=1, period="hour", rolling=True, team=cast.alice.team)
    for minute, ceiling, alerts in (
        (0, 2, 0),  # no window has begun
        (10, 1, 0),  # begins one
        (11, 1, 1),
        (60, 1, 1),
        (71, 2, 1),  # it is over
        (80, 1, 1),
        (81, 1, 2),
    ):
        asked.set_clock(later(NOVEMBER, minutes=minute))
        asked.admit(cast.alice, ceiling)
        assert exhausted().count() == alerts, minute
    assert Window.objects.count() == 2


@pytest.mark.parametrize(
    ("budget", "refuses"),
    [({"amount": 0}, True), ({"amount": 9, "period": "day"}, False), ({"amount": 0, "enforcement": "soft"}, False)],
)
@pytest.mark.parametrize("patterns", [[], [HAIKU]])
def test_another_attempt_that_a_budget_refuses_alerts(asked, cast, budget, refuses, patterns):
    call, _ = asked.admit(cast.alice, "0.25")
    Budget.objects.create(team=cast.alice.team, model_patterns=patterns, **budget)
    for _ in range(2):
        held = asked.one("SELECT usage_hold_more(%s, 'echo', NULL, %s, 0.1, 10, 1200)", call.id, HAIKU)
        assert held is not refuses
        assert exhausted().count() == refuses
    if refuses:
        assert exhausted().get().needed == Decimal("0.35")


def test_only_one_of_several_processes_alerts(cast):
    Budget.objects.create(amount=0, team=cast.alice.team)
    Budget.objects.create(period="none", customer=cast.alice.customer)
    Budget.objects.create(amount=0, period="hour", rolling=True, virtual_key=cast.alice)
    together = threading.Barrier(4)

    def call():
        with arbiter() as asked:
            together.wait()
            for _ in range(10):
                assert set(asked.group([asked.ask(cast.alice, 2) for _ in range(3)])) == {"budget"}

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert exhausted().count() == 3
    assert verification.verify() == []


def test_a_budget_that_refuses_a_call_that_is_too_large_is_not_exhausted_and_still_alerts_later(asked, cast):
    budget = Budget.objects.create(amount=1, period="day", team=cast.alice.team)

    def since():
        return vars(with_standing(Budget.objects.filter(pk=budget.pk)).get())["exhausted_since"]

    call, _ = asked.admit(cast.alice, "0.79")
    assert asked.admit(cast.alice, "1.51")[1] == "budget"
    assert not exhausted().exists()
    assert since() is None
    more, _ = asked.admit(cast.alice, "0.01")
    assert asked.admit(cast.alice, "1.51")[1] == "budget"
    assert exhausted().get().left == Decimal("0.2")
    assert since() == NOVEMBER
    # What was held is given back: there is room again.
    asked.settle(more, 0)
    assert since() is None
    asked.settle(call, "0.9")
    assert since() == NOVEMBER


# Over the wire


def quota(web, key):
    return CLIENT.get(f"{web.url}/v1/quota", headers=credentials(key)).json()["budgets"]


def test_a_refusal_leaves_its_alert_though_the_process_is_killed_at_once(start_web, alice):
    web = start_web(retry_attempts=1, admission_seconds=3.25)
    Budget.objects.create(team=alice.team, amount=0)
    refused(post(web, alice.key), 429, "billing_error")
    try:
        web.kill()
    finally:
        web.start()
    assert exhausted().count() == 1
    refused(post(web, alice.key), 429, "billing_error")
    assert exhausted().count() == 1


def test_quota_says_since_when_a_budget_is_exhausted(web, alice):
    Budget.objects.create(customer=alice.virtual_key.customer, amount=100)
    Budget.objects.create(team=alice.team, amount=0)
    prepaid = Budget.objects.create(virtual_key=alice.virtual_key, period="none")
    Budget.objects.create(virtual_key=alice.virtual_key, amount=0, period="hour", rolling=True)
    assert [budget["exhausted_since"] for budget in quota(web, alice.key)] == [None] * 4
    refused(post(web, alice.key), 429, "billing_error")
    roomy, *others = quota(web, alice.key)
    assert roomy["exhausted_since"] is None
    for budget in others:
        assert datetime.fromisoformat(budget["exhausted_since"]) >= exhausted().earliest("at").at
    prepaid.top_up(Decimal(5), reason="invoice", author="finance")
    assert [budget["exhausted_since"] is None for budget in quota(web, alice.key)] == [True, False, True, False]


def test_a_fallback_that_a_budget_cannot_bear_alerts(web, served, upstream):
    alice = issue(upstream)
    Budget.objects.create(amount=0, team=alice.team, model_patterns=["claude-haiku-*"])
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}
    upstream.answer = whole(529, json.dumps(error).encode(), ("x-should-retry", "false"))
    assert post(web, alice.key, ask(fallbacks=[HAIKU])).status_code == 529
    assert exhausted().get().budget.model_patterns == ["claude-haiku-*"]


def test_a_batch_that_a_budget_refuses_alerts(web, alice, upstream):
    upstream.answer = BatchProvider()
    Budget.objects.create(amount=0, virtual_key=alice.virtual_key)
    requests = [{"custom_id": "a", "params": ask()}]
    refused(post(web, alice.key, {"requests": requests}, "/v1/messages/batches"), 429, "billing_error")
    assert exhausted().get().budget.virtual_key == alice.virtual_key


def test_it_is_sent_by_webhook_and_email_and_shown_in_the_lists(web, alice, upstream, settings, client):
    settings.EMAIL_HOST = "mail.example.com"
    Customer.objects.update(time_zone="Europe/Berlin")
    budget = Budget.objects.create(team=alice.team, amount=0, thresholds=[80])
    refused(post(web, alice.key), 429, "billing_error")
    alert = exhausted().get()
    secret = keyring.encrypt("0123456789abcdef0123456789abcdef")
    AlertTarget.objects.create(channel="webhook", address=upstream.url, secret_ciphertext=secret)
    AlertTarget.objects.create(channel="email", address="finance@example.com")
    upstream.answer = whole(204, b"")
    for _ in range(2):
        tasks.deliver_alerts()
    (seen,) = upstream.seen
    said = json.loads(seen.body)
    assert (said["type"], said["id"]) == ("budget.exhausted", f"alert_{alert.pk}")
    assert "threshold" not in said
    assert {name: said[name] for name in ("amount", "spent", "held", "left")} == {
        "amount": "0",
        "spent": "0",
        "held": "0",
        "left": "0",
    }
    assert Decimal(said["needed"]) > 0
    assert said["budget"]["owner"] == {"type": "team", "name": "Research"}
    assert said["window"]["until"]
    (message,) = mail.outbox
    assert message.subject == "$0 a month for team Acme / Research is exhausted: calls are refused"
    assert f"A call needed up to {said['needed']} USD; 0 USD of 0 USD are left" in message.body
    client.force_login(User.objects.create_superuser("admin"))
    shown = {
        name: client.get(reverse(address, args=arguments)).content.decode()
        for name, address, arguments in (
            ("alerts", "admin:usage_alert_changelist", []),
            ("alert", "admin:usage_alert_change", [alert.pk]),
            ("budgets", "admin:usage_budget_changelist", []),
            ("budget", "admin:usage_budget_change", [budget.pk]),
            ("team", "admin:keys_team_change", [alice.team.pk]),
        )
    }
    for name in ("alerts", "alert"):
        assert "exhausted: calls are refused" in shown[name]
        assert re.search(r"delivered \d+ \w+ 20\d\d", shown[name])
    for name in ("budgets", "budget", "team"):
        assert f"exhausted since {alert.at.day} {alert.at:%b %Y %H:%M} UTC" in shown[name], name
