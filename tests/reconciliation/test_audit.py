"""Every change that people make in the reconciliation is in the audit log, without secrets."""

from __future__ import annotations

import pytest

from keys.models import ProviderKey
from reconciliation import admin_keys
from reconciliation.models import AdjustmentRun, AdminKey, Bill, BillFormat, ReportedKey
from tests.support.audit_log import RECONCILED, last, said, watched
from tests.support.reported import at

pytestmark = pytest.mark.django_db(transaction=True)


def test_each_change_is_in_the_log() -> None:
    key = ProviderKey.objects.create(name="main", provider="echo")
    admin_key = AdminKey(name="organisation", provider="anthropic")
    admin_keys.save(admin_key, "sk-ant-admin01-first-secret")
    format_ = BillFormat.objects.create(name="cloud", provider_key=key)
    reported = ReportedKey.objects.create(admin_key=admin_key, api_key_id="apikey_1")
    day = at(3).date()
    Bill.objects.create(
        format=format_, filename="b.csv", sha256="0" * 64, size=1, lines=1, first_day=day, last_day=day, amount=1
    )
    AdjustmentRun.objects.create(
        provider_key=key, since=at(3), until=at(4), reason="November", author="boss", calls=0, cost=0, charge=0
    )
    expected = {
        "reconciliation_adminkey": "organisation",
        "reconciliation_billformat": "cloud",
        "reconciliation_reportedkey": "apikey_1",
        "reconciliation_bill": "b.csv",
        "reconciliation_adjustmentrun": "November",
    }
    assert expected.keys() == RECONCILED
    assert expected.keys() <= watched()
    for table, words in expected.items():
        assert words in said(last(table))[1], table
    reported.provider_key = key
    reported.save()
    assert "main" in said(last("reconciliation_reportedkey"))[1]
    admin_keys.save(admin_key, "sk-ant-admin01-second-secret")
    event = last("reconciliation_adminkey")
    assert event.changes == {"secret_ciphertext": {"from": {"secret": True}, "to": {"secret": True}}}


def test_what_a_worker_notes_on_an_admin_key_is_no_change() -> None:
    admin_key = AdminKey(name="organisation", provider="anthropic")
    admin_keys.save(admin_key, "sk-ant-admin01-first-secret")
    before = last("reconciliation_adminkey").pk
    admin_keys.keep_problem(admin_key, "the provider answered 500")
    assert last("reconciliation_adminkey").pk == before
