"""Alerts, from the threshold that is passed to who receives it: over real sockets, and Django's mailbox for tests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from keys import keyring, provider_keys
from tests.support.alert_cast import SECRET, START, due, exhaust, pass_threshold, tell
from tests.support.alert_cast import a_deployment as a_deployment
from tests.support.alert_cast import admin as admin
from tests.support.alert_cast import cast as cast
from tests.support.alert_cast import hook as hook
from tests.support.fake_provider import whole
from usage import alert_sending, tasks
from usage.models import Alert, Budget, Delivery, Window

pytestmark = pytest.mark.django_db


def test_a_webhook_gets_the_alert_signed_and_once(cast, hook):
    budget = Budget.objects.create(team=cast.alice.team, amount=100, thresholds=[80], model_patterns=["claude-*"])
    Window.objects.create(budget=budget, start=START, until=datetime(2026, 12, 1, tzinfo=UTC), spent=81, held=0)
    tell(f"{hook.url}/budgets?x=1")
    alert = pass_threshold(budget)
    for _ in range(3):
        tasks.deliver_alerts()
    (seen,) = hook.seen
    assert (seen.method, seen.target) == ("POST", "/budgets?x=1")
    said = json.loads(seen.body)
    assert said.pop("at") == alert.at.isoformat().replace("+00:00", "Z")
    assert said == {
        "type": "budget.threshold",
        "id": f"alert_{alert.pk}",
        "threshold": 80,
        "spent": "81.5",
        "amount": "100",
        "budget": {
            "id": budget.pk,
            "owner": {"type": "team", "name": "Research"},
            "customer": "Ours",
            "models": ["claude-*"],
            "unit": "usd",
            "period": "month",
            "enforcement": "hard",
        },
        "window": {"start": "2026-11-01T00:00:00.000000Z", "until": "2026-12-01T00:00:00.000000Z"},
    }
    (name,), (at,), (given,) = (seen.values(f"webhook-{each}") for each in ("id", "timestamp", "signature"))
    assert abs(int(at) - timezone.now().timestamp()) < 60
    assert name == f"alert_{alert.pk}"
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = hmac.new(key, f"{name}.{at}.".encode() + seen.body, hashlib.sha256).digest()
    assert given == "v1," + base64.b64encode(expected).decode()
    alert.refresh_from_db()
    assert alert.delivered_at


def test_the_signature_is_the_one_of_the_published_example():
    # https://github.com/standard-webhooks/standard-webhooks: the vector that its libraries are tested with.
    at = datetime.fromtimestamp(1614265330, UTC)
    given = alert_sending.signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}'
    )
    assert given == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_email_says_which_budget_and_how_much(cast):
    budget = Budget.objects.create(customer=cast.alice.customer, amount=100, thresholds=[80])
    tell("finance@example.com", channel="email")
    alert = pass_threshold(budget)
    tasks.deliver_alerts()
    tasks.deliver_alerts()
    (message,) = mail.outbox
    assert message.to == ["finance@example.com"]
    assert message.subject == "80 % of $100 a month for customer Ours"
    assert "81.5 USD of 100 USD are spent" in message.body
    assert re.fullmatch(rf"<alert-{alert.pk}-\d+@localhost>", message.extra_headers["Message-ID"])


def test_a_prepaid_budget_has_no_window_to_speak_of(cast, hook):
    tell(hook.url)
    tell("finance@example.com", channel="email")
    pass_threshold(Budget.objects.create(team=cast.alice.team, period="none"))
    tasks.deliver_alerts()
    assert json.loads(hook.last.body)["window"] == {"start": None, "until": None}
    assert "Window" not in mail.outbox[0].body


def test_each_target_gets_alerts_of_its_customers_budgets_only(cast):
    for address, customer in (("all", None), ("ours", cast.alice.customer), ("theirs", cast.charlie.customer)):
        tell(f"{address}@example.com", customer, channel="email")
    tell("off@example.com", channel="email", active=False)
    pass_threshold(Budget.objects.create(virtual_key=cast.charlie, amount=100))
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    tasks.deliver_alerts()
    assert sorted((message.to[0], message.subject.split(" for ")[1]) for message in mail.outbox) == [
        ("all@example.com", "team Ours / Research"),
        ("all@example.com", "virtual key charlie of Theirs"),
        ("ours@example.com", "team Ours / Research"),
        ("theirs@example.com", "virtual key charlie of Theirs"),
    ]


ALERTS = {
    "a threshold": lambda cast: pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100)),
    "an exhausted budget": lambda cast: exhaust(Budget.objects.create(virtual_key=cast.alice, amount=100)),
    "an overrun": lambda cast: Alert.objects.create(
        virtual_key=cast.alice, start=START, threshold=100, spent=2, amount=1, at=timezone.now()
    ),
    "a refused provider key": lambda cast: Alert.objects.create(
        provider_key=cast.provider_key,
        start=START,
        threshold=0,
        spent=0,
        amount=0,
        http_status=401,
        at=timezone.now(),
    ),
}
NOT_FOR_IT = {
    "there is no alert target": lambda cast: None,
    "the alert targets that it is for are switched off": lambda cast: [
        tell("theirs@example.com", cast.charlie.customer, channel="email"),
        tell("off@example.com", channel="email", active=False),
    ],
    "the alert targets are for other customers": lambda cast: tell(
        "theirs@example.com", cast.charlie.customer, channel="email"
    ),
}


@pytest.mark.parametrize("why", NOT_FOR_IT)
@pytest.mark.parametrize("about", ALERTS)
def test_an_alert_without_a_target_is_not_delivered_and_says_why(cast, admin, about, why):
    NOT_FOR_IT[why](cast)
    alert = ALERTS[about](cast)
    for _ in range(2):
        tasks.deliver_alerts()
    alert.refresh_from_db()
    assert alert.delivered_at is None
    assert not mail.outbox
    for page in (
        reverse("admin:usage_alert_changelist"),
        reverse("admin:usage_alert_change", args=[alert.pk]),
    ):
        shown = admin.get(page).content.decode()
        assert f"not sent: {why} (<a href=" in shown
        where = "changelist" if "switched off" in why else "add"
        assert f'"{reverse(f"admin:usage_alerttarget_{where}")}"' in shown
        assert "delivered at" not in shown.lower()


@pytest.mark.parametrize("about", ALERTS)
def test_a_target_that_is_added_later_gets_what_is_raised_from_then_on(cast, about):
    ALERTS[about](cast)
    tasks.deliver_alerts()
    tell("late@example.com", channel="email")
    tasks.deliver_alerts()
    assert not mail.outbox
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=99))
    tasks.deliver_alerts()
    (message,) = mail.outbox
    assert "$99" in message.subject


@pytest.mark.parametrize(
    ("spent", "period", "sent"),
    [
        # What is spent when it refuses says that the threshold is passed.
        (100, "month", ["budget.exhausted"]),
        (100, "none", ["budget.exhausted"]),
        # Most of it was held then: that all is spent is news.
        (60, "month", ["budget.exhausted", "budget.threshold"]),
    ],
)
def test_one_message_is_enough_where_it_says_all(cast, hook, spent, period, sent):
    tell(hook.url)
    budget = Budget.objects.create(team=cast.alice.team, amount=100, period=period)
    pass_threshold(budget, 100)
    exhaust(budget, spent)
    # Another window's alert says nothing of this one.
    exhaust(Budget.objects.create(virtual_key=cast.alice, amount=100), start=datetime(2026, 10, 1, tzinfo=UTC))
    tasks.deliver_alerts()
    of_budget = [said for seen in hook.seen if (said := json.loads(seen.body))["budget"]["id"] == budget.pk]
    assert sorted(said["type"] for said in of_budget) == sent


def test_a_threshold_is_news_where_the_budget_was_exhausted_in_another_window(cast, hook):
    tell(hook.url)
    budget = Budget.objects.create(team=cast.alice.team, amount=100)
    exhaust(budget, 100, start=datetime(2026, 10, 1, tzinfo=UTC))
    pass_threshold(budget, 100)
    tasks.deliver_alerts()
    assert len(hook.seen) == 2


def test_a_hundred_percent_that_was_sent_before_a_call_is_refused_does_not_stand_for_the_refusal(cast, hook):
    tell(hook.url)
    budget = Budget.objects.create(team=cast.alice.team, amount=100)
    pass_threshold(budget, 100)
    tasks.deliver_alerts()
    exhaust(budget, 100)
    tasks.deliver_alerts()
    assert [json.loads(seen.body)["type"] for seen in hook.seen] == ["budget.threshold", "budget.exhausted"]


def test_an_alert_that_is_on_its_way_says_how_far_it_is(cast, hook, admin):
    def shown():
        return admin.get(reverse("admin:usage_alert_changelist")).content.decode()

    tell("finance@example.com", channel="email")
    tell(hook.url)
    hook.answer = whole(500, b"no")
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    assert "within half a minute" in shown()
    tasks.deliver_alerts()
    assert "under way: 1 of 2 delivered" in shown()
    due(created_at=timezone.now() - timedelta(days=2))
    tasks.deliver_alerts()
    assert "given up: 1 of 2 delivered" in shown()


def test_an_alert_that_counted_as_delivered_without_a_target_does_not_any_more_after_the_upgrade(cast):
    migration = importlib.import_module("usage.migrations.0016_exhausted_budgets")
    told = pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    with connection.cursor() as cursor:
        Alert.objects.update(delivered_at=timezone.now())
        cursor.execute(migration.UNSENT)
        assert Alert.objects.values_list("delivered_at", "unsent").get() == (None, "no_target")
        target = tell("finance@example.com", channel="email")
        Alert.objects.update(delivered_at=timezone.now(), unsent="")
        Delivery.objects.create(alert=told, target=target, created_at=timezone.now(), next_at=timezone.now())
        cursor.execute(migration.UNSENT)
    assert Alert.objects.get().delivered_at


def test_an_alert_has_the_amounts_that_the_arbiter_counts(cast):
    budget = Budget.objects.create(team=cast.alice.team, amount=1, thresholds=[50], enforcement="soft")
    tell("finance@example.com", channel="email")
    with connection.cursor() as cursor:
        cursor.execute("SELECT usage_open_windows(ARRAY[%s]::bigint[])", [budget.pk])
        start = Window.objects.get().start
        for _ in range(2):
            cursor.execute("SELECT usage_count(ARRAY[ROW(%s, %s, 0.6, 0)::usage_change])", [budget.pk, start])
    tasks.deliver_alerts()
    (message,) = mail.outbox
    assert message.subject == "50 % of $1 a month for team Ours / Research"


def test_secrets_of_webhooks_are_rotated_with_the_others(cast):
    target = tell("https://hooks.example.com/")
    before = bytes(target.secret_ciphertext)
    provider_keys.rotate_master_key()
    target.refresh_from_db()
    assert bytes(target.secret_ciphertext) != before
    assert keyring.decrypt(target.secret_ciphertext) == SECRET
