"""*May it call?* gives the admission's answer, whatever budgets, limits, pauses and expiries there are, and changes
nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keys.models import Credential, Customer, Gateway, ProviderKey, Team, VirtualKey, VirtualKeyRoute
from messages_api.relay.why import Size, why
from tests.support.asked_arbiter import give_credential
from tests.support.budget_cast import NOVEMBER, arbiter_, budget, cast  # noqa: F401
from tests.support.gateway import admin_connection, empty
from usage.arbitration import ModelShare
from usage.models import Budget, Hold, Limit, Window

pytestmark = pytest.mark.either_server
MODEL = "claude-opus-5-5"
ASK = "SELECT verdict, detail, bars, needs FROM usage_why(%s::jsonb)"
OWNERS = ("customer", "team", "virtual_key")
BUDGETS = st.lists(
    st.tuples(
        st.sampled_from(OWNERS),
        st.decimals(min_value=0, max_value=2, places=2),
        st.sampled_from(["hour", "day", "month", "none"]),
        st.booleans(),
        st.sampled_from(["hard", "hard", "soft", "expected"]),
        st.sampled_from([[], ["claude-opus-*"], ["*haiku*"]]),
        st.booleans(),
    ),
    max_size=3,
)
LIMITS = st.lists(
    st.tuples(
        st.sampled_from(OWNERS),
        st.sampled_from(["rpm", "input_tpm", "output_tpm", "parallel"]),
        st.integers(1, 3000),
        st.sampled_from([None, 1, 500]),
    ),
    max_size=3,
)
BARS = st.fixed_dictionaries(
    {
        "key": st.sampled_from([True, True, True, False]),
        "team": st.sampled_from([False, False, False, True]),
        "customer": st.sampled_from([False, False, False, True]),
        "gateway": st.sampled_from([False, False, False, True]),
        "expiry": st.sampled_from([None, None, 1, -1]),
        "revoked": st.sampled_from([False, False, False, False, True]),
    }
)
CALLS = st.lists(st.decimals(min_value="0.01", max_value=1, places=2), max_size=3)


def asked_about(link, *admissions):
    """The answers of usage_why to these admissions, in a transaction that may change nothing."""
    with link.transaction():
        link.execute("SET TRANSACTION READ ONLY")
        return link.execute(ASK, [msgspec.json.encode(admissions).decode()]).fetchall()


def without_clock(detail):
    """The details of a refusal, without what moves with the clock between two questions."""
    facts = json.loads(detail) if isinstance(detail, str) else detail
    return facts and {name: value for name, value in facts.items() if name not in ("left", "retry_after", "fits")}


def make_owners():
    customer = Customer.objects.create(name="Acme")
    team = Team.objects.create(customer=customer, name="Research")
    return give_credential(VirtualKey.objects.create(name="alice", customer=customer, team=team))


def give_terms(key, budgets, limits):
    owners = {"customer": key.customer, "team": key.team, "virtual_key": key}
    for whose, amount, period, rolling, enforcement, only, tokens in budgets:
        made = Budget.objects.create(
            amount=0 if period == "none" else amount * 2000 if tokens else amount,
            period=period,
            rolling=rolling and period != "none",
            enforcement=enforcement,
            model_patterns=only,
            unit="tokens" if tokens else "usd",
            **{whose: owners[whose]},
        )
        if period == "none" and amount:
            made.top_up(amount * 2000 if tokens else amount, reason="x", author="y")
    for whose, kind, rate, burst in limits:
        Limit.objects.create(
            kind=kind, rate=rate, burst=None if kind == "parallel" else burst, **{whose: owners[whose]}
        )


def bar(key, bars):
    Team.objects.update(paused=bars["team"])
    Customer.objects.update(paused=bars["customer"])
    Gateway.objects.update(paused=bars["gateway"])
    hour: Any = timedelta(hours=bars["expiry"]) if bars["expiry"] else None
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE keys_virtualkey SET active = %s, expires_at = clock_timestamp() + %s,"
            " revoked_at = CASE WHEN %s THEN clock_timestamp() END WHERE id = %s",
            [bars["key"], hour, bars["revoked"], key.pk],
        )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(budgets=BUDGETS, limits=LIMITS, before=CALLS, ceiling=CALLS.filter(bool), bars=BARS, renamed=st.booleans())
def test_its_answer_is_the_admissions(arbiter_, budgets, limits, before, ceiling, bars, renamed):  # noqa: F811
    Hold.objects.all().delete()  # nothing settles them, and `empty` would wait for it
    empty()
    key = make_owners()
    give_terms(key, budgets, limits)
    for cost in before:
        call, verdict = arbiter_.admit(key, cost)
        if verdict == "admitted" and cost < Decimal("0.5"):
            arbiter_.settle(call, cost)
    bar(key, bars)
    shares = {"haiku": ModelShare(ceiling[0], 1200, [MODEL])} if renamed else None
    call = arbiter_.ask(key, ceiling[0], shares=shares)
    windows = list(Window.objects.order_by("budget_id", "start").values_list("budget_id", "start", "spent", "held"))
    ((verdict, detail, found, _),) = asked_about(arbiter_.link, call)
    assert windows == list(
        Window.objects.order_by("budget_id", "start").values_list("budget_id", "start", "spent", "held")
    )
    (admitted,) = arbiter_.group([call])
    assert verdict == admitted
    assert found[:1] == ([verdict] if found else [])
    if verdict in ("budget", "limit"):
        assert without_clock(detail) == without_clock(admitted.details)


def test_it_waits_for_no_counter(cast, arbiter_):  # noqa: F811
    budget(1, virtual_key=cast.alice)
    Limit.objects.create(virtual_key=cast.alice, kind="rpm", rate=5)
    arbiter_.admit(cast.alice, "0.1")
    with admin_connection() as other:
        other.execute("SET lock_timeout = '1s'")
        with other.transaction(), admin_connection() as writer, writer.transaction():
            writer.execute("SELECT FROM usage_window FOR UPDATE")
            writer.execute("SELECT FROM usage_limitstate FOR UPDATE")
            ((verdict, _, _, needs),) = asked_about(other, arbiter_.ask(cast.alice, "0.1"))
    assert verdict == "admitted"
    assert [need["fits"] for need in needs] == [True, True]


@pytest.fixture
def served_alice(cast, arbiter_):  # noqa: F811
    """Alice, whose key maps to a provider key."""
    main = ProviderKey.objects.create(name="echo", provider="echo")
    VirtualKeyRoute.objects.create(virtual_key=cast.alice, provider_key=main)
    arbiter_.set_clock(None)
    return cast.alice


def closed(answer):
    return [gate.kind for gate in answer.gates if not gate.is_open]


def test_all_gates_are_open_to_a_key_without_terms(served_alice):
    answer = why(served_alice, MODEL)
    assert answer.may_call
    assert answer.first_no is None
    assert [gate.kind for gate in answer.gates] == ["key", "expiry", "pause", "model", "provider_key"]
    assert answer.ceiling > 0


@pytest.mark.parametrize(
    ("change", "verdict", "gates"),
    [
        (lambda key: VirtualKey.objects.filter(pk=key.pk).update(active=False), "key paused", ["pause"]),
        (lambda key: Customer.objects.update(paused=True), "customer paused", ["pause"]),
        (lambda key: Credential.objects.update(expires_at=NOVEMBER - timedelta(days=365)), "expired", ["expiry"]),
        (
            lambda key: VirtualKey.objects.filter(pk=key.pk).update(denied_models=["*opus*"]),
            "model_not_allowed",
            ["model"],
        ),
        (lambda key: VirtualKey.objects.filter(pk=key.pk).update(max_tokens=10), "max_tokens", ["max_tokens"]),
        (lambda key: ProviderKey.objects.update(model_patterns=["claude-haiku-*"]), "unknown_model", ["model"]),
        (lambda key: budget("0.000001", team=key.team), "budget", ["budget"]),
        (lambda key: Credential.objects.filter(virtual_key=key).delete(), "unknown", ["key"]),
    ],
)
def test_the_first_closed_gate_says_why_and_what_would_open_it(served_alice, change, verdict, gates):
    change(served_alice)
    answer = why(served_alice, MODEL, Size(1000, 1000))
    assert (answer.verdict, closed(answer)) == (verdict, gates)
    assert answer.first_no
    assert answer.first_no.says
    assert answer.first_no.change


def test_a_closed_gate_does_not_hide_those_behind_it(served_alice):
    budget("0.000001", virtual_key=served_alice)
    Team.objects.update(paused=True)
    assert closed(why(served_alice, MODEL)) == ["pause", "budget"]


def cool_down(provider_key, reason="rate_limited"):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO keys_cooldown (provider_key_id, model, reason, strikes, since, until)"
            " VALUES (%s, '', %s, 9, clock_timestamp(), clock_timestamp() + interval '1 minute')",
            [provider_key.pk, reason],
        )


def test_a_provider_key_that_cools_down_refuses_only_if_there_is_no_other(served_alice):
    cool_down(ProviderKey.objects.get(name="echo"))
    answer = why(served_alice, MODEL)
    assert (answer.verdict, closed(answer)) == ("cooling", ["provider_key"])
    other = ProviderKey.objects.create(name="other", provider="echo")
    VirtualKeyRoute.objects.create(virtual_key=served_alice, provider_key=other)
    answer = why(served_alice, MODEL)
    assert (answer.verdict, closed(answer)) == ("admitted", [])


def test_a_budget_for_one_of_two_provider_keys_refuses_only_calls_that_go_there(served_alice):
    other = ProviderKey.objects.create(name="other", provider="echo")
    VirtualKeyRoute.objects.create(virtual_key=served_alice, provider_key=other)
    budget("0.000001", virtual_key=served_alice, provider_key=other)
    answer = why(served_alice, MODEL)
    assert (answer.verdict, closed(answer)) == ("depends", ["budget"])


def test_it_makes_a_fixed_number_of_queries(served_alice, django_assert_num_queries):
    for _ in range(3):
        budget(1, virtual_key=served_alice)
    other = ProviderKey.objects.create(name="other", provider="echo")
    VirtualKeyRoute.objects.create(virtual_key=served_alice, provider_key=other)
    with transaction.atomic(), django_assert_num_queries(7):
        why(served_alice, MODEL)
