"""Values on pages look as people write them: dates and times in one field, and no JSON."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from administration.models import ApiToken
from administration.role_names import Role
from keys import plain_values
from keys.models import VirtualKey
from tests.roles.test_roles import person
from tests.support.issued import make_key
from tests.support.ledger_rows import make_entry

pytestmark = pytest.mark.django_db
# A date and a time that are entered apart, as Django's admin would have them.
APART = re.compile(r'name="[\w-]+_[01]"')
PRESETS = re.compile(r'<button type="button" data-value="([^"]*)">([^<]+)</button>')


def page(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize(
    "name", ["administration_apitoken", "usage_price", "usage_exchangerate", "usage_override", "keys_virtualkey"]
)
def test_no_form_asks_for_a_date_and_a_time_apart(admin_client, name):
    shown = page(admin_client, reverse(f"admin:{name}_add"))
    assert not APART.search(shown)
    assert 'type="datetime-local"' in shown


def test_an_expiry_has_buttons_for_usual_times_in_the_viewers_zone(admin_client):
    admin_client.cookies["time_zone"] = "Asia/Tokyo"
    shown = PRESETS.findall(page(admin_client, reverse("admin:administration_apitoken_add")))
    assert [title for _, title in shown] == ["30 days", "90 days", "1 year"]
    now = timezone.now()
    for (value, _), days in zip(shown, (30, 90, 365), strict=True):
        at = (now + timedelta(days=days, hours=9)).replace(tzinfo=None)
        assert abs(datetime.fromisoformat(value) - at) < timedelta(minutes=2)
    assert ("", "Never") in PRESETS.findall(page(admin_client, reverse("admin:keys_virtualkey_add")))


def test_a_preset_of_the_token_page_makes_a_token(admin_client):
    url = reverse("admin:administration_apitoken_add")
    year = PRESETS.findall(page(admin_client, url))[-1][0]
    answer = admin_client.post(url, {"name": "nightly", "scopes": ["calls:read"], "expires_at": year})
    assert b"sk-ba-" in answer.content
    assert timedelta(days=364) < ApiToken.objects.get().expires_at - timezone.now() < timedelta(days=366)


def test_a_page_that_can_only_be_read_shows_labels_and_other_json_in_words(client):
    key, _ = make_key()
    VirtualKey.objects.filter(pk=key.pk).update(labels={"project": "atlas", "cost_centre": "<7>"})
    call = make_entry(key, labels='{"project": "atlas"}')
    client.force_login(person("fiona", Role.FINANCE))
    for url in (
        reverse("admin:keys_virtualkey_change", args=[key.pk]),
        reverse("admin:usage_ledgerentry_change", args=[call]),
    ):
        shown = page(client, url)
        assert "project=atlas" in shown
        assert "&quot;project&quot;" not in shown
        assert "&quot;cost_centre&quot;" not in shown
        assert "&#x27;project&#x27;" not in shown
    assert "cost_centre=&lt;7&gt;" in page(client, reverse("admin:keys_virtualkey_change", args=[key.pk]))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "–"),
        (None, "–"),
        ({"a": 1, "b": None}, '<span class="json-line">a=1</span><span class="json-line">b=–</span>'),
        (
            [{"model": "m", "parts": [1, 2], "ok": True}],
            '<span class="json-line">model: m, parts: 1; 2, ok: yes</span>',
        ),
        ("<b>", "<b>"),
    ],
)
def test_json_in_words(value, said):
    assert plain_values.in_words(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [("2.000000000000", "2"), ("0.000600000000", "0.0006"), ("1E+4", "10,000"), ("0", "0"), (None, "–")],
)
def test_numbers_have_no_zeros_that_only_fill_a_column(value, said):
    assert plain_values.as_number(value and Decimal(value)) == said


def test_a_page_that_can_only_be_read_shows_amounts_without_such_zeros(admin_client):
    key, _ = make_key()
    call = make_entry(key, cost="2")
    shown = page(admin_client, reverse("admin:usage_ledgerentry_change", args=[call]))
    assert "2.000000000000" not in shown


def test_forms_keep_labels_as_lines(admin_client):
    key, _ = make_key()
    VirtualKey.objects.filter(pk=key.pk).update(labels={"project": "atlas"})
    shown = page(admin_client, reverse("admin:keys_virtualkey_change", args=[key.pk]))
    assert re.search(r'<textarea name="labels"[^>]*>\s*project=atlas</textarea>', shown)
