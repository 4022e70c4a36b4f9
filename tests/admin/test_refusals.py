from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from usage import refusals
from usage.models import Refusal

pytestmark = pytest.mark.django_db


def make_refusal(age, **counted):
    return Refusal.objects.create(
        id=uuid.uuid4(),
        refused_at=timezone.now() - age,
        http_status=401,
        error_type="authentication_error",
        reason="revoked",
        message="revoked",
        endpoint="messages",
        **counted,
    )


def test_it_deletes_rows_that_are_older_than_the_given_days(monkeypatch):
    monkeypatch.setattr(refusals, "PART", 2)
    for hours in (-1, 1, 2, 3, 4):
        make_refusal(timedelta(days=14, hours=hours))
    kept = Refusal.objects.latest("refused_at")
    make_refusal(timedelta(days=15), minute=timezone.now() - timedelta(days=15), count=3)
    counted = make_refusal(timedelta(), minute=timezone.now(), count=3)
    assert refusals.forget(14) == 5
    assert set(Refusal.objects.all()) == {kept, counted}
