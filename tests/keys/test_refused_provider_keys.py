"""Provider keys that their provider refuses: administrators get an alert, and can end the cool-down in the admin."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from keys import keyring
from keys.models import Cooldown, CooldownReason
from tests.support.fake_provider import whole
from tests.support.gateway import message, post, refused, wait_until
from tests.support.issued import make_provider_key
from usage import tasks
from usage.models import Alert, AlertTarget

REFUSAL = b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}'


def tell(address, customer=None):
    AlertTarget.objects.create(channel="email", address=address, customer=customer)


def take_out(provider_key, reason=CooldownReason.REFUSED, status=401, seconds=60, **members):
    now = timezone.now()
    until = now + timedelta(seconds=seconds)
    return Cooldown.objects.create(
        provider_key=provider_key, reason=reason, http_status=status, strikes=1, since=now, until=until, **members
    )


@pytest.mark.parametrize("status", [401, 402, 403])
def test_administrators_get_an_alert_about_a_refused_provider_key(web, upstream, alice, settings, status):
    settings.EMAIL_HOST = "mail.example.com"
    tell("platform@example.com")
    tell("acme@example.com", alice.team.customer)
    upstream.answer = whole(status, REFUSAL)
    refused(post(web, alice.key), 503, "api_error")
    wait_until(Cooldown.objects.exists)
    tasks.deliver_alerts()
    [told] = mail.outbox
    assert told.to == ["platform@example.com"]
    assert told.subject == "The provider refuses provider key main"
    assert f"It answered {status}" in told.body
    assert "x-api-key" not in told.body
    tasks.deliver_alerts()
    assert len(mail.outbox) == 1


def test_a_webhook_gets_which_one_it_is(apart, upstream):
    upstream.answer = whole(204, b"")
    AlertTarget.objects.create(channel="webhook", address=upstream.url, secret_ciphertext=keyring.encrypt("s" * 24))
    take_out(make_provider_key("main"))
    tasks.deliver_alerts()
    alert = Alert.objects.get()
    assert json.loads(upstream.last.body) == {
        "type": "provider_key.refused",
        "id": f"alert_{alert.pk}",
        "at": f"{alert.at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "provider_key": "main",
        "provider": "echo",
        "http_status": 401,
    }
    assert alert.delivered_at


def test_the_alert_is_repeated_once_an_hour_while_the_refusals_last(apart):
    cooldown = take_out(make_provider_key("main"))
    for strikes in (2, 3):
        cooldown.strikes = strikes
        cooldown.save()
    cooldown.delete()
    take_out(cooldown.provider_key)
    assert Alert.objects.count() == 1
    Alert.objects.update(start=timezone.now() - timedelta(hours=1))
    Cooldown.objects.update(strikes=9)
    assert Alert.objects.count() == 2


@pytest.mark.parametrize("reason", [CooldownReason.RATE_LIMITED, CooldownReason.FAILING])
def test_a_temporary_failure_raises_no_alert(apart, reason):
    take_out(make_provider_key("main"), reason)
    assert not Alert.objects.exists()


def test_the_admin_shows_alerts_of_it(apart, client):
    take_out(make_provider_key("main"), status=402)
    client.force_login(User.objects.create_superuser("alice"))
    shown = client.get(reverse("admin:usage_alert_changelist")).content.decode()
    assert "provider key main" in shown
    assert "refused: HTTP 402" in shown
    alert = Alert.objects.get()
    assert client.get(reverse("admin:usage_alert_change", args=[alert.pk])).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("reason", "seconds", "state"),
    [("refused", 60, "refused"), ("refused", -60, "refused"), ("failing", 60, "cooling"), ("failing", -60, "active")],
)
def test_the_list_of_provider_keys_says_which_are_called(client, reason, seconds, state):
    client.force_login(User.objects.create_superuser("alice"))
    key = make_provider_key("main")
    take_out(key, reason, seconds=seconds)
    shown = client.get(reverse("admin:keys_providerkey_changelist")).content.decode()
    assert f'class="state {state}"' in shown
    assert (f"/cooldown/?provider_key__id__exact={key.pk}" in shown) == (state != "active")


@pytest.mark.django_db
def test_a_person_who_may_change_provider_keys_may_end_a_cooldown(client):
    cooldown = take_out(make_provider_key("main"), model="claude-haiku-4-5")
    url = reverse("admin:keys_cooldown_changelist")
    for codenames, left in ((["view_cooldown"], True), (["view_cooldown", "change_providerkey"], False)):
        bob = User.objects.create(username=f"bob {left}", is_staff=True)
        bob.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client()
        client.force_login(bob)
        page = client.get(url).content.decode()
        assert "claude-haiku-4-5" in page
        client.post(url, {"action": "end", "_selected_action": [cooldown.pk]})
        assert Cooldown.objects.exists() == left


def test_a_provider_key_whose_cooldown_is_ended_is_called_again(web, upstream, alice):
    upstream.answer = whole(429, REFUSAL, ("retry-after", "600"))
    assert post(web, alice.key).status_code == 429
    upstream.answer = whole(200, message())
    Cooldown.objects.all().delete()
    time.sleep(1.2)  # every process reads them once a second
    assert post(web, alice.key).status_code == 200
