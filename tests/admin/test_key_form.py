"""A key's form takes labels and the expiry in the same way as the page that issues keys."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.urls import reverse

from tests.support.admin_forms import faults, save
from tests.support.issued import make_key

pytestmark = pytest.mark.django_db


def test_labels_are_lines_and_the_expiry_is_the_browsers_calendar_in_both_forms(admin_client):
    expires = datetime(2099, 3, 4, 5, 6, 7, tzinfo=UTC)
    key, _ = make_key(labels={"project": "atlas", "cost": "a=b"}, expires_at=expires)
    page = reverse("admin:keys_virtualkey_change", args=[key.pk])
    like = f"{reverse('admin:keys_virtualkey_add')}?like={key.pk}"
    for shown in (admin_client.get(url).content.decode() for url in (page, like)):
        assert "cost=a=b\nproject=atlas</textarea>" in shown  # as PostgreSQL orders them
        assert '<input type="datetime-local" name="expires_at"' in shown
    assert save(admin_client, page, owner="bob").status_code == 302
    key.refresh_from_db()
    assert (key.labels, key.expires_at) == ({"project": "atlas", "cost": "a=b"}, expires)
    assert "is not a label" in faults(save(admin_client, page, labels="atlas"))
    assert save(admin_client, page, labels="team=x", expires_at="2098-01-01T00:00").status_code == 302
    key.refresh_from_db()
    assert (key.labels, key.expires_at) == ({"team": "x"}, datetime(2098, 1, 1, tzinfo=UTC))
