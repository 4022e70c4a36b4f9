"""Calls that cost more than was held for them: settled in full, recorded, reported once a day and counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.db import IntegrityError, transaction
from django.urls import reverse

from keys import keyring
from tests.support.asked_arbiter import arbiter, cast_with_credentials, settlement
from tests.support.budget_cast import budget, window
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, credentials, message, row
from usage import overruns, request_ids, tasks
from usage.models import Adjustment, Alert, AlertTarget, Budget, Delivery, LedgerEntry, Overrun

pytestmark = pytest.mark.either_server

NOVEMBER = datetime(2026, 11, 17, 12, tzinfo=UTC)
BATCH = {"endpoint": "batches.create", "expires_seconds": 3600}


@pytest.fixture
def cast(apart, settings):
    settings.EMAIL_HOST = "mail.example.com"
    return cast_with_credentials("alice", "bob", "charlie")


@pytest.fixture
def arbiter_(cast):
    with arbiter() as asked:
        asked.set_clock(NOVEMBER)
        yield asked


def overrun(arbiter_, key, cost="0.75", ceiling="0.25"):
    """A call of the key's that costs more than was held for it."""
    call, verdict = arbiter_.admit(key, ceiling)
    assert verdict == "admitted"
    arbiter_.settle(call, cost)
    return call


def noted():
    return [(each.call, each.virtual_key.name, each.cost, each.held) for each in Overrun.objects.order_by("at", "call")]


def tell(address, customer=None):
    AlertTarget.objects.create(channel="email", address=address, customer=customer)


def test_a_call_that_costs_what_was_held_for_it_is_no_overrun(arbiter_, cast):
    for cost in ("0", "0.2", "0.25"):
        call, _ = arbiter_.admit(cast.alice, "0.25")
        arbiter_.settle(call, cost)
    assert LedgerEntry.objects.count() == 3
    assert noted() == []


def test_a_call_that_costs_more_is_settled_in_full_and_noted_once(arbiter_, cast):
    budget(team=cast.alice.team)
    call = overrun(arbiter_, cast.alice)
    arbiter_.settle(call, "0.9")  # again: it was settled
    assert LedgerEntry.objects.get().cost == Decimal("0.75")
    assert window() == (Decimal("0.75"), 0)
    assert noted() == [(call.id, "alice", Decimal("0.75"), Decimal("0.25"))]
    assert Overrun.objects.get().at == NOVEMBER


def test_of_a_group_only_those_that_cost_more_are_noted(arbiter_, cast):
    calls = [arbiter_.ask(key, "0.25") for key in (cast.alice, cast.bob, cast.charlie)]
    arbiter_.group(calls)
    arbiter_.group(settlements=[settlement(call, cost) for call, cost in zip(calls, ("0.3", "0.1", "4"), strict=True)])
    assert sorted((name, cost) for _, name, cost, _ in noted()) == [("alice", Decimal("0.3")), ("charlie", Decimal(4))]


def test_a_call_that_settles_late_is_noted_by_what_it_cost_in_all(arbiter_, cast):
    cheap, dear = (arbiter_.admit(cast.alice, "0.25")[0] for _ in range(2))
    assert arbiter_.reap() == 2
    assert noted() == []
    arbiter_.settle(cheap, "0.24")
    arbiter_.settle(dear, "0.26")
    assert Adjustment.objects.count() == 2
    assert noted() == [(dear.id, "alice", Decimal("0.26"), Decimal("0.25"))]


def line(number, cost):
    """A line of a batch, settled."""
    call = settlement(number, cost)
    told = {name: str(value) if isinstance(value, Decimal) else value for name, value in json_ready(call).items()}
    return told | {"part": f"line {len(told)} {cost}", "ended_at": NOVEMBER.isoformat()}


def json_ready(call):
    return {name: getattr(call, name) for name in call.__struct_fields__ if name != "id"}


def test_of_a_batch_the_lines_beyond_what_was_held_add_up(arbiter_, cast):
    call, _ = arbiter_.admit(cast.alice, "1", **BATCH)
    opened = json_ready(settlement(call, 0)) | {"id": str(call.id), "cost": "0"}
    assert arbiter_.one("SELECT usage_open(%s)", json.dumps(opened))
    for cost in ("0.75", "0.5", "0.25"):
        arbiter_.one("SELECT usage_settle_parts(%s, %s, false)", call.id, json.dumps([line(call, cost)]))
    ((named, _, cost, held),) = noted()
    assert (named, cost - held) == (call.id, Decimal("0.5"))
    assert sum(LedgerEntry.objects.values_list("cost", flat=True)) == Decimal("1.5")


def test_one_alert_a_key_and_day(arbiter_, cast):
    tell("finance@example.com")
    overrun(arbiter_, cast.alice)
    overrun(arbiter_, cast.alice, "0.5")
    overrun(arbiter_, cast.bob)
    tasks.deliver_alerts()
    overrun(arbiter_, cast.alice)
    tasks.deliver_alerts()
    told = sorted((message.subject, message.body.splitlines()[0]) for message in mail.outbox)
    assert [subject for subject, _ in told] == [
        "Calls of virtual key alice of Ours / Research cost more than was held for them",
        "Calls of virtual key bob of Ours / Research cost more than was held for them",
    ]
    assert "The calls cost 1.25 USD; 0.5 USD were held for them." in told[0][1]
    arbiter_.set_clock(NOVEMBER + timedelta(days=1))
    overrun(arbiter_, cast.alice)
    tasks.deliver_alerts()
    assert len(mail.outbox) == 3
    assert "Day: 2026-11-18" in mail.outbox[-1].body
    assert Overrun.objects.count() == 5
    assert not Overrun.objects.filter(told=False).exists()


def test_a_webhook_gets_what_it_cost_and_what_was_held(arbiter_, cast, upstream):
    upstream.answer = whole(204, b"")
    AlertTarget.objects.create(channel="webhook", address=upstream.url, secret_ciphertext=keyring.encrypt("s" * 24))
    overrun(arbiter_, cast.alice)
    tasks.deliver_alerts()
    alert = Alert.objects.get()
    assert json.loads(upstream.last.body) == {
        "type": "virtual_key.overrun",
        "id": f"alert_{alert.pk}",
        "at": "2026-11-17T12:00:00.000000Z",
        "cost": "0.75",
        "held": "0.25",
        "virtual_key": "alice",
        "customer": "Ours",
        "day": "2026-11-17",
    }
    assert alert.delivered_at


def test_each_target_gets_alerts_of_its_customers_keys_only(arbiter_, cast):
    for address, customer in (("all", None), ("ours", cast.alice.customer), ("theirs", cast.charlie.customer)):
        tell(f"{address}@example.com", customer)
    overrun(arbiter_, cast.charlie)
    tasks.deliver_alerts()
    assert sorted(message.to[0] for message in mail.outbox) == ["all@example.com", "theirs@example.com"]


def test_an_overrun_that_another_worker_reports_is_left_to_it(arbiter_, cast):
    overrun(arbiter_, cast.alice)
    arbiter_.link.autocommit = False
    arbiter_.link.execute("SELECT FROM usage_overrun FOR UPDATE")
    assert overruns.raise_alerts() == 0
    arbiter_.link.rollback()
    arbiter_.link.autocommit = True
    assert overruns.raise_alerts() == 1
    assert overruns.raise_alerts() == 0


def test_an_alert_is_about_one_thing(cast):
    budget = Budget.objects.create(team=cast.alice.team, amount=1)
    with pytest.raises(IntegrityError, match="usage_alert_of_one_at_most"), transaction.atomic():
        Alert.objects.create(
            start=NOVEMBER, threshold=100, spent=2, amount=1, at=NOVEMBER, budget=budget, virtual_key=cast.alice
        )


def test_the_admin_shows_overruns_and_their_alerts(arbiter_, cast, client):
    tell("finance@example.com")
    call = overrun(arbiter_, cast.alice)
    tasks.deliver_alerts()
    client.force_login(User.objects.create_superuser("admin"))
    shown = client.get(reverse("admin:usage_overrun_changelist"), {"q": request_ids.request_id(call.id)})
    assert request_ids.request_id(call.id) in shown.content.decode()
    for model, shown in (("alert", Alert.objects.get()), ("delivery", Delivery.objects.get())):
        assert client.get(reverse(f"admin:usage_{model}_changelist")).status_code == 200
        assert client.get(reverse(f"admin:usage_{model}_change", args=[shown.pk])).status_code == 200


def test_a_provider_that_counts_more_than_was_held_is_noted(web, alice, upstream):
    upstream.answer = whole(200, message(input_tokens=2_000_000))
    answer = CLIENT.post(web.url + "/v1/messages", json=ask(), headers=credentials(alice.key))
    assert answer.status_code == 200
    entry = row()
    assert entry.cost > entry.held > 0
    ((call, _, cost, held),) = noted()
    assert (call, cost, held) == (entry.id, entry.cost, entry.held)
