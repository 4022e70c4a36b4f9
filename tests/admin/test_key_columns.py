"""The list of virtual keys shows what each key spent this month, what is left of its budget, and its last call."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.support.issued import make_key
from usage.budgets import Budget, Window
from usage.credential_uses import CredentialUse
from usage.owner_days import OwnerDay

LIST = "/admin/keys/virtualkey/"


@pytest.fixture
def boss(client, db):
    client.force_login(User.objects.create_superuser("boss"))
    return client


def use(name, cost):
    key, _ = make_key(name)
    today = timezone.now().astimezone(UTC).date()
    counts = {"calls": 1, "failed_calls": 0, "input_tokens": 1, "output_tokens": 1}
    OwnerDay.objects.create(owner=key.pk * 4 + 2, day=today, model="echo-1", cost=cost, **counts)
    OwnerDay.objects.create(owner=key.pk * 4 + 2, day=today - timedelta(days=40), model="echo-1", cost=99, **counts)
    OwnerDay.objects.create(owner=key.pk * 4 + 1, day=today, model="echo-1", cost=77, **counts)
    for amount, spent, period in ((10, "7.50", "none"), (100, 1, "month")):
        budget = Budget.objects.create(virtual_key=key, period=period, amount=0 if period == "none" else amount)
        if period == "none":
            budget.top_up(Decimal(amount), reason="invoice", author="finance")
        if period == "none":
            Window.objects.create(budget=budget, start=datetime(1970, 1, 1, tzinfo=UTC), spent=Decimal(spent), held=0)
    at = datetime(2026, 11, 3, 9, 30, tzinfo=UTC)
    CredentialUse.objects.create(credential=key.credentials.get().pk, used_at=at, address="192.0.2.7")
    return key


def test_a_row_has_the_keys_own_use(boss):
    use("alice", "1.25")
    make_key("bob")
    page = boss.get(LIST).content.decode()
    assert "$1.25" in page
    assert "$99" not in page
    assert "$77" not in page
    # Of its budgets, the one of which the smallest part is left.
    assert "$2.50" in page
    assert "25% of $10.00" in page
    assert "3 Nov 2026 09:30 UTC" in page
    assert "never" in page


def test_more_rows_need_no_more_queries(boss):
    counts = []
    for names in (["a"], ["b", "c", "d"]):
        for name in names:
            use(name, 1)
        boss.get(LIST)
        with CaptureQueriesContext(
            connection,
        ) as asked:
            boss.get(LIST)
        counts.append(len(asked))
    assert counts[0] == counts[1]
