"""The admin's pages of alerts and their targets."""

from __future__ import annotations

import pytest
from django.urls import reverse

from keys import keyring
from tests.support.admin_forms import change
from tests.support.alert_cast import SECRET, pass_threshold, tell
from tests.support.alert_cast import a_deployment as a_deployment
from tests.support.alert_cast import admin as admin
from tests.support.alert_cast import cast as cast
from usage import tasks
from usage.models import Alert, AlertTarget, Budget, Delivery

pytestmark = pytest.mark.django_db


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
    assert change(admin, address, form).status_code == 302  # not active any more
    target.refresh_from_db()
    assert not target.active
    assert keyring.decrypt(target.secret_ciphertext) == SECRET
    moved = change(admin, address, form | {"address": "https://elsewhere.example.com/"})
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
def test_a_target_with_an_invalid_address_is_refused(admin, form, complaint):
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
