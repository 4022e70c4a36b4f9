"""Virtual keys that expire soon: their owner gets an e-mail, and alert targets an alert, once for each threshold."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from administration.role_names import Role
from administration.roles import giving, visible
from gateway_project.configuration import Configuration
from keys import issuing
from keys.models import Customer, VirtualKey
from tests.support.issued import make_key
from tests.support.issuing_form import text
from usage import alert_delivery, expiries, tasks
from usage.alert_words import described
from usage.models import Alert, AlertTarget, Delivery

pytestmark = pytest.mark.django_db
DAYS = [14, 3, 1]


@pytest.fixture(autouse=True)
def a_deployment(settings, tmp_path):
    settings.VAR_DIR = tmp_path
    settings.EMAIL_HOST = "mail.example.com"


def key_that_expires(days, issued_days_ago=100, **terms):
    """A key that expires in some days."""
    key, _ = make_key(terms.pop("name", "ci"), **terms)
    now = timezone.now()
    VirtualKey.objects.filter(pk=key.pk).update(
        expires_at=now + timedelta(days=days), created_at=now - timedelta(days=issued_days_ago)
    )
    key.refresh_from_db()
    return key


def thresholds():
    return sorted(Alert.objects.values_list("threshold", flat=True))


@pytest.mark.parametrize(
    ("days", "told"), [(20, []), (13.9, [14]), (3.5, [14]), (2.5, [3]), (0.5, [1]), (0.001, [1]), (-1, [])]
)
def test_a_notice_is_of_the_smallest_number_of_days_that_is_reached(days, told):
    key_that_expires(days)
    expiries.raise_alerts(DAYS)
    assert thresholds() == told


def test_each_threshold_gives_one_notice_and_a_later_expiry_others():
    key = key_that_expires(13)
    assert [expiries.raise_alerts(DAYS) for _ in range(2)] == [1, 0]
    VirtualKey.objects.filter(pk=key.pk).update(expires_at=timezone.now() + timedelta(days=2))
    assert [expiries.raise_alerts(DAYS) for _ in range(2)] == [1, 0]
    assert thresholds() == [3, 14]


def test_a_key_that_was_issued_for_less_time_gives_no_notice_at_once():
    key_that_expires(0.9, issued_days_ago=0)
    key_that_expires(2.9, issued_days_ago=0, name="other")
    assert expiries.raise_alerts(DAYS) == 0


def test_a_revoked_key_and_a_setting_without_days_tell_nothing():
    issuing.revoke(key_that_expires(2))
    assert expiries.raise_alerts(DAYS) == 0
    key_that_expires(2, name="other")
    assert expiries.raise_alerts([]) == 0


def test_the_owner_and_the_alert_targets_get_an_e_mail_and_a_page_shows_it(client):
    key = key_that_expires(2, owner="alice@example.com")
    AlertTarget.objects.create(channel="email", address="ops@example.com", customer=key.customer)
    tasks.tell_of_expiries()
    alert_delivery.sweep()
    assert sorted(message.to[0] for message in mail.outbox) == ["alice@example.com", "ops@example.com"]
    message = mail.outbox[0]
    assert message.subject == "Virtual key ci of Acme / Research expires within 3 days"
    assert f"Expires: {key.expires_at:%-d %b %Y %H:%M} UTC" in message.body
    assert Alert.objects.get().delivered_at is not None
    client.force_login(User.objects.create_superuser("boss"))
    assert "the key's owner" in text(client.get(reverse("admin:usage_delivery_changelist")))
    shown = text(client.get(reverse("admin:usage_alert_changelist")))
    assert "virtual key ci of Acme / Research" in shown
    assert "expires " in shown


def test_an_owner_who_is_a_person_gets_the_notice_at_their_address():
    User.objects.create_user("Alice", email="alice@example.com")
    key_that_expires(2, owner="alice")
    expiries.raise_alerts(DAYS)
    alert_delivery.sweep()
    assert [message.to for message in mail.outbox] == [["alice@example.com"]]
    alert_delivery.sweep()
    assert len(mail.outbox) == 1


@pytest.mark.parametrize("owner", ["", "nobody", "not@an address", "a@b\nBcc: c@d.com", "gone"])
def test_without_an_address_there_is_no_mail_and_the_alert_says_so(owner):
    User.objects.create_user("gone", email="gone@example.com", is_active=False)
    key = key_that_expires(2)
    VirtualKey.objects.filter(pk=key.pk).update(owner=owner)
    expiries.raise_alerts(DAYS)
    alert_delivery.sweep()
    assert mail.outbox == []
    assert Alert.objects.get().get_unsent_display() == "there is no alert target"


def test_without_a_mail_server_the_owner_gets_nothing_and_the_alert_says_so(settings, client):
    settings.EMAIL_HOST = ""
    key_that_expires(2, owner="alice@example.com")
    expiries.raise_alerts(DAYS)
    alert_delivery.sweep()
    assert not Delivery.objects.exists()
    client.force_login(User.objects.create_superuser("boss"))
    shown = text(client.get(reverse("admin:usage_alert_changelist")))
    assert "not sent: there is no alert target, and without EMAIL_HOST the key’s owner gets no e-mail" in shown


@pytest.mark.parametrize(
    ("delivery", "waiting", "stuck"),
    [
        (None, 1, True),
        ({"given_up_at": timedelta(0)}, 0, False),
        ({"next_at": timedelta(minutes=30)}, 1, False),
        ({"next_at": timedelta(minutes=-30)}, 1, True),
    ],
)
def test_the_overview_suspects_the_worker_only_of_what_it_could_send_now(client, delivery, waiting, stuck):
    key_that_expires(2)
    expiries.raise_alerts(DAYS)
    now = timezone.now()
    Alert.objects.update(at=now - timedelta(hours=1))
    if delivery is not None:
        target = AlertTarget.objects.create(channel="email", address="ops@example.com")
        times = {"created_at": now, "next_at": now} | {name: now + after for name, after in delivery.items()}
        Delivery.objects.create(alert=Alert.objects.get(), target=target, **times)
    client.force_login(User.objects.create_superuser("boss"))
    context = client.get("/admin/").context
    assert (context["queue"]["waiting"], context["queue_stuck"]) == (waiting, stuck)


def test_an_owner_who_lost_the_address_meanwhile_is_a_problem_of_the_delivery():
    key = key_that_expires(2, owner="alice@example.com")
    expiries.raise_alerts(DAYS)
    alert_delivery.plan()
    VirtualKey.objects.filter(pk=key.pk).update(owner="alice")
    alert_delivery.sweep()
    assert Delivery.objects.get().problem == "the key's owner has no e-mail address"
    assert mail.outbox == []


def test_a_webhook_gets_the_expiry():
    key = key_that_expires(2)
    expiries.raise_alerts(DAYS)
    said = described(Alert.objects.get())
    assert said | {"id": "", "at": ""} == {
        "type": "virtual_key.expiring",
        "id": "",
        "at": "",
        "virtual_key": "ci",
        "customer": "Acme",
        "expires_at": f"{key.expires_at:%Y-%m-%dT%H:%M:%S.%f}Z",
        "days": 3,
    }


def test_the_setting_takes_days_with_commas_and_refuses_others():
    assert Configuration(expiry_notice_days="30, 7").expiry_notice_days == [30, 7]
    assert Configuration(expiry_notice_days="").expiry_notice_days == []
    for wrong in ("0", "-1", "366", "soon"):
        with pytest.raises(ValueError, match="expiry_notice_days"):
            Configuration(expiry_notice_days=wrong)


@pytest.mark.parametrize("scope", ["customer", "team"])
def test_a_key_admin_sees_and_retries_what_goes_to_owners_of_the_own_keys_and_no_others(client, scope):
    key = key_that_expires(2, owner="alice@example.com")
    others, _ = make_key("other", customer=Customer.objects.create(name="Globex"), team=None)
    everyones = AlertTarget.objects.create(channel="email", address="everyones@example.com")
    now, rows = timezone.now(), {}
    for of, target in ((key, None), (key, everyones), (others, None)):
        alert, _ = Alert.objects.get_or_create(
            virtual_key=of, expires_at=now, start=now, threshold=3, spent=0, amount=0, at=now
        )
        rows[of, target] = Delivery.objects.create(
            alert=alert, target=target, created_at=now, next_at=now, given_up_at=now, attempts=9
        )
    user = User.objects.create_user("admin", is_staff=True)
    giving.give(None, user, Role.KEY_ADMIN, **{scope: getattr(key, scope)})
    seen = [row for row in rows.values() if user.has_perm("usage.view_delivery", row)]
    assert seen == list(visible(user, Delivery.objects.all())) == [rows[key, None]]
    client.force_login(user)
    chosen = {"action": "retry_now", "_selected_action": [row.pk for row in rows.values()]}
    assert client.post(reverse("admin:usage_delivery_changelist"), chosen).status_code == 302
    assert list(Delivery.objects.filter(given_up_at=None)) == [rows[key, None]]
