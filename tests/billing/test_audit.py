"""Every change of issuers and billing particulars is in the audit log."""

from __future__ import annotations

import pytest
from django.test import Client

from billing.models import Issuer, Particulars
from keys.models import Customer
from tests.support.admin_forms import save
from tests.support.audit_log import BILLED, last, said, watched

pytestmark = pytest.mark.django_db(transaction=True)


def test_each_change_is_in_the_log_with_both_values(admin_client: Client) -> None:
    assert watched() >= BILLED
    customer = Customer.objects.create(name="Acme")
    assert save(admin_client, "/admin/billing/issuer/add/", name="Platform", prefix="PF").status_code == 302
    assert "prefix PF" in said(last("billing_issuer"))[1]
    issuer = Issuer.objects.get()
    chosen = {"customer": customer.pk, "issuer": issuer.pk, "currency": "EUR", "time_zone": "UTC"}
    assert save(admin_client, "/admin/billing/particulars/add/", **chosen).status_code == 302
    assert "currency EUR" in said(last("billing_particulars"))[1]
    Issuer.objects.update(name="Finance")
    assert "name Platform → Finance" in said(last("billing_issuer"))[1]
    Particulars.objects.update(currency="USD")
    assert "currency EUR → USD" in said(last("billing_particulars"))[1]
