"""Alerts as the arbiter writes them, and targets that take them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from keys import keyring
from tests.support.fake_provider import whole
from tests.support.ledger_rows import make_cast
from usage.models import Alert, AlertTarget, Delivery

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


@pytest.fixture
def admin(client):
    client.force_login(User.objects.create_superuser("admin"))
    return client


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
    """Let time pass: every waiting delivery is due."""
    Delivery.objects.filter(delivered_at=None).update(next_at=timezone.now(), **change)
