"""Alerts, from the threshold that is passed to whoever is told: over real sockets, and Django's mailbox for tests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from keys import keyring, provider_keys
from tests.ledger import make_cast
from tests.upstream import whole
from usage import alert_delivery, saved_addresses, tasks
from usage.models import Alert, AlertTarget, Budget, Delivery, Window

pytestmark = pytest.mark.django_db

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def a_deployment(settings, tmp_path):
    settings.VAR_DIR = tmp_path
    settings.EMAIL_HOST = "mail.example.com"


@pytest.fixture
def cast():
    return make_cast()


@pytest.fixture
def hook(upstream):
    """A server that takes webhooks."""
    upstream.answer = whole(204, b"")
    return upstream


def pass_threshold(budget, threshold=80):
    """What the arbiter writes when spending passes a threshold."""
    return Alert.objects.create(
        budget=budget, start=START, threshold=threshold, spent=Decimal("81.5"), amount=100, at=timezone.now()
    )


def exhaust(budget, spent=93, start=START):
    """What the arbiter writes when a budget refuses a call."""
    return Alert.objects.create(
        budget=budget, start=start, threshold=0, spent=spent, held=100 - spent, needed=7, amount=100, at=timezone.now()
    )


def tell(address, customer=None, channel="webhook", secret=SECRET, **terms):
    ciphertext = keyring.encrypt(secret) if channel == "webhook" else b""
    return AlertTarget.objects.create(
        channel=channel, address=address, customer=customer, secret_ciphertext=ciphertext, **terms
    )


def due(**change):
    """Time passes: whatever waits is due."""
    Delivery.objects.filter(delivered_at=None).update(next_at=timezone.now(), **change)


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
    given = alert_delivery.signature(
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


def test_each_target_is_told_of_its_customers_budgets_only(cast):
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


def test_what_fails_is_tried_again_with_longer_and_longer_pauses(cast, hook):
    hook.answer = whole(500, b"no")
    tell(hook.url)
    alert = pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    pauses = []
    for _ in range(3):
        before = timezone.now()
        tasks.deliver_alerts()
        tasks.deliver_alerts()
        delivery = Delivery.objects.get()
        pauses.append(round((delivery.next_at - before).total_seconds() / 30))
        due()
    assert (len(hook.seen), delivery.attempts, delivery.problem) == (3, 3, "failed")
    assert pauses == [1, 2, 4]
    hook.answer = whole(200, b"ok")
    tasks.deliver_alerts()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.problem) == ("delivered", "")
    assert {seen.values("webhook-id")[0] for seen in hook.seen} == {f"alert_{alert.pk}"}
    assert alert_delivery.pause(1000) == timedelta(hours=1)


def test_it_is_given_up_after_a_day_and_can_be_tried_again(cast, hook, client):
    hook.answer = whole(500, b"no")
    tell(hook.url)
    alert = pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    tasks.deliver_alerts()
    due(created_at=timezone.now() - timedelta(days=1))
    tasks.deliver_alerts()
    delivery = Delivery.objects.get()
    alert.refresh_from_db()
    assert (delivery.state, alert.delivered_at) == ("given up", None)
    due()
    tasks.deliver_alerts()
    assert len(hook.seen) == 2
    hook.answer = whole(200, b"ok")
    client.force_login(User.objects.create_superuser("admin"))
    address = reverse("admin:usage_delivery_changelist")
    assert b"failed" in client.get(address, {"state": "given up"}).content
    client.post(address, {"action": "retry_now", "_selected_action": delivery.pk})
    tasks.deliver_alerts()
    delivery.refresh_from_db()
    alert.refresh_from_db()
    assert (delivery.state, bool(alert.delivered_at)) == ("delivered", True)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/",
        "http://no.such.host.invalid/",
        "http://[::1/",
        "http://169.254.169.254/",
        "http://10.0.0.1/",
    ],
)
def test_one_target_that_cannot_be_reached_keeps_nobody_else_waiting(cast, address):
    tell(address)
    tell("finance@example.com", channel="email")
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    tasks.deliver_alerts()
    assert len(mail.outbox) == 1
    assert Delivery.objects.get(target__channel="webhook").problem == "failed"


def test_a_redirect_is_not_followed(cast, hook):
    hook.answer = whole(307, b"", ("location", f"{hook.url}/elsewhere"))
    tell(hook.url)
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    tasks.deliver_alerts()
    assert len(hook.seen) == 1
    assert Delivery.objects.get().problem == "failed"


def test_a_webhook_goes_to_private_addresses_by_leave_or_where_it_went_before(cast, hook, settings, client):
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"allowed_private_hosts": []})
    target = tell(hook.url)
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    tasks.deliver_alerts()
    assert not hook.seen
    AlertTarget.objects.update(predates_address_checks=True)
    due()
    tasks.deliver_alerts()
    assert len(hook.seen) == 1
    assert saved_addresses.uncovered() == [
        "webhook (127.0.0.1): its address is private: ALLOWED_PRIVATE_HOSTS must name its host or network. It is "
        "still used until its address is changed, because it was saved before addresses were checked."
    ]

    # Once it is changed, it is one like all others.
    client.force_login(User.objects.create_superuser("admin"))
    page = reverse("admin:usage_alerttarget_change", args=[target.pk])
    form = {"channel": "webhook", "address": f"{hook.url}/other", "secret": SECRET, "active": "on"}
    assert b"its address is private" in client.post(page, form).content
    assert client.post(page, form | {"address": hook.url}).status_code == 302
    target.refresh_from_db()
    assert target.predates_address_checks
    assert client.post(page, form | {"address": "https://8.8.8.8/"}).status_code == 302
    target.refresh_from_db()
    assert not target.predates_address_checks


def test_without_a_mail_server_it_says_so(cast, settings):
    settings.EMAIL_HOST = ""
    tell("finance@example.com", channel="email")
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    tasks.deliver_alerts()
    assert not mail.outbox
    assert "EMAIL_HOST" in Delivery.objects.get().problem


def test_a_target_that_was_switched_off_meanwhile_hears_nothing(cast, hook):
    target = tell(hook.url)
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    alert_delivery.plan()
    AlertTarget.objects.filter(pk=target.pk).update(active=False)
    tasks.deliver_alerts()
    assert not hook.seen
    assert "switched off" in Delivery.objects.get().problem


def test_what_somebody_else_is_sending_is_left_alone(cast, hook):
    tell(hook.url)
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    alert_delivery.plan()
    assert alert_delivery.claim()
    assert alert_delivery.claim() is None
    due()
    assert alert_delivery.claim()


def test_what_the_arbiter_counts_is_what_is_told(cast):
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


# The admin's pages


@pytest.fixture
def admin(client):
    client.force_login(User.objects.create_superuser("admin"))
    return client


def add_target(client, **form):
    plain = {"channel": "webhook", "customer": "", "address": "https://hooks.example.com/", "active": "on"}
    return client.post(reverse("admin:usage_alerttarget_add"), plain | {"secret": SECRET} | form)


def test_a_webhooks_secret_goes_in_and_never_comes_out(admin):
    assert add_target(admin).status_code == 302
    target = AlertTarget.objects.get()
    assert keyring.decrypt(target.secret_ciphertext) == SECRET
    address = reverse("admin:usage_alerttarget_change", args=[target.pk])
    for page in (address, reverse("admin:usage_alerttarget_changelist")):
        assert SECRET not in admin.get(page).content.decode()
    form = {"channel": "webhook", "address": "https://hooks.example.com/", "secret": ""}
    assert admin.post(address, form).status_code == 302  # not active any more
    target.refresh_from_db()
    assert not target.active
    assert keyring.decrypt(target.secret_ciphertext) == SECRET
    moved = admin.post(address, form | {"address": "https://elsewhere.example.com/"})
    assert "enter the secret again" in moved.content.decode()


@pytest.mark.parametrize(
    ("form", "complaint"),
    [
        ({"secret": ""}, "A webhook needs a secret"),
        ({"secret": "short"}, "it needs at least 24 characters"),
        ({"address": "hooks.example.com"}, "Expected a URL"),
        ({"address": "ftp://hooks.example.com"}, "Expected a URL"),
        ({"address": "http://[::1"}, "Expected a URL"),
        ({"address": "https://user:word@hooks.example.com"}, "lists show the URL"),
        ({"channel": "email", "secret": ""}, "valid email address"),
        ({"channel": "email", "address": "finance@example.com"}, "An e-mail target has no secret"),
    ],
)
def test_a_target_that_cannot_be_told_is_refused(admin, form, complaint):
    response = add_target(admin, **form)
    assert response.status_code == 200
    assert complaint in response.content.decode()
    assert not AlertTarget.objects.exists()


def test_alerts_and_deliveries_can_be_looked_at(admin, cast):
    tell("finance@example.com", channel="email")
    pass_threshold(Budget.objects.create(team=cast.alice.team, amount=100))
    tasks.deliver_alerts()
    for model in ("alert", "delivery"):
        row = Alert.objects.get() if model == "alert" else Delivery.objects.get()
        assert admin.get(reverse(f"admin:usage_{model}_changelist")).status_code == 200
        address = reverse(f"admin:usage_{model}_change", args=[row.pk])
        assert admin.get(address).status_code == 200
        assert admin.post(address, {}).status_code == 403
