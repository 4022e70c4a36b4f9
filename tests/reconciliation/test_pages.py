"""Billing ▸ Reconciliation, from a month down to an hour, and what people do there; the same by REST and a command."""

from __future__ import annotations

import html
import io
import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from administration.rest import tokens
from administration.role_names import Role
from administration.roles import giving
from keys import provider_keys
from keys.audit.models import AuditEvent
from reconciliation import running
from reconciliation.models import AdjustmentRun, AdminKey, Bill, BillFormat, ReportedKey
from reconciliation.reading import Run
from tests.support.reported import HAIKU, MONTH, SECRET, SONNET, USED, Organisation, at, moment
from usage.models import Adjustment

pytestmark = pytest.mark.django_db(transaction=True)
BASE = "/admin/billing/"
NOVEMBER = {"month": "2026-11"}


@pytest.fixture(autouse=True)
def _soon_after(acme: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is early in the month: fewer days are read."""
    moment(monkeypatch, at(9, 7))


def person(client: Client, role: Role | None = None) -> Client:
    """Sign in with a role; None: a superuser."""
    if role is None:
        client.force_login(User.objects.create_superuser("boss"))
        return client
    user = User.objects.create_user(role.value)
    giving.give(None, user, role)
    client.force_login(user)
    return client


def text(client: Client, path: str, **query: str) -> str:
    """The text of a page, without its tags."""
    answer = client.get(BASE + path, query)
    assert answer.status_code == 200, path
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def read(acme: Organisation) -> None:
    assert running.run(acme.admin_key, Run(since=at(3).date())) == ""


def plant(acme: Organisation) -> None:
    """A match, another use, an estimate, a discount, and a key of others."""
    acme.both(at(3), model=HAIKU)
    acme.counted(at(3, 12), requests=4)
    acme.sent(at(5), USED | {"output_tokens": 500}, estimated=True, status="client_disconnected", held="1")
    acme.counted(at(5), USED)
    acme.both(at(6), model=SONNET, paid=Decimal("0.85"))
    acme.counted(at(7), api_key_id="apikey_others")
    read(acme)


def test_finance_reads_from_the_month_down_to_the_hour(acme: Organisation, client: Client) -> None:
    plant(acme)
    person(client, Role.FINANCE)
    shown = text(client, "reconciliation/", **NOVEMBER)
    for words in ("anthropic main", "used elsewhere", "Other use of the key", "Not ours", "apikey_others"):
        assert words in shown
    assert "Add an admin key" not in shown
    shown = text(client, f"reconciliation/{acme.key.pk}/", **NOVEMBER)
    assert "4 requests that this gateway never sent" in shown
    assert f"{SONNET}: -15.0 % of the list price" in shown or f"{SONNET}: -15 % of the list price" in shown
    assert "Make it a price" not in shown
    assert "Adjust estimates" not in shown
    shown = text(client, f"reconciliation/{acme.key.pk}/hours/", day="2026-11-03")
    assert "12:00 claude-opus-5-5" in shown
    assert "4 not sent by us" in shown
    for path in ("adjusted-estimates/", "reported-keys/", "bills/"):
        text(client, path)
        assert client.post(BASE + path).status_code == 403
    assert client.get(f"{BASE}reconciliation/{acme.key.pk}/adjust/", NOVEMBER).status_code == 403
    assert client.get("/admin/reconciliation/adminkey/").status_code == 403


def test_a_billing_admin_adjusts_after_a_preview_and_takes_it_back(acme: Organisation, client: Client) -> None:
    plant(acme)
    person(client, Role.BILLING_ADMIN)
    url = f"reconciliation/{acme.key.pk}/adjust/"
    shown = text(client, url, **NOVEMBER)
    assert "Ours 1 $" in shown
    assert not Adjustment.objects.exists()
    assert "This field is required" in client.post(f"{BASE}{url}?month=2026-11", {"reason": ""}).content.decode()
    answer = client.post(f"{BASE}{url}?month=2026-11", {"reason": "November"}, follow=True)
    assert "1 call was adjusted" in answer.content.decode()
    run = AdjustmentRun.objects.get()
    assert (run.author, run.reason, Adjustment.objects.count()) == (Role.BILLING_ADMIN.value, "November", 1)
    answer = client.post(f"{BASE}{url}?month=2026-11", {"reason": "November"}, follow=True)
    assert "nothing was written" in answer.content.decode()
    client.post(f"{BASE}adjusted-estimates/", {"run": run.pk, "reason": "wrong"})
    assert Adjustment.objects.count() == 2
    assert "taken back" in text(client, "adjusted-estimates/")
    events = AuditEvent.objects.filter(table_name="reconciliation_adjustmentrun", changes__has_key="reason")
    assert [(event.actor_kind, event.changes["reason"]["to"]) for event in events.order_by("id")][-2:] == [
        ("person", "November"),
        ("person", "wrong"),
    ]


def test_the_discount_is_offered_as_a_price_that_is_filled_in(acme: Organisation, client: Client) -> None:
    plant(acme)
    person(client, Role.BILLING_ADMIN)
    page = client.get(f"{BASE}reconciliation/{acme.key.pk}/", NOVEMBER).content.decode()
    [url] = re.findall(r'href="(/admin/usage/price/add/[^"]+)"', page)
    form = client.get(html.unescape(url)).context["adminform"].form
    assert {name: str(form.initial[name]) for name in ("sets", "provider", "model", "percent")} == {
        "sets": "cost",
        "provider": "anthropic",
        "model": SONNET,
        "percent": "-15",
    }


def test_a_person_chooses_among_keys_that_fit(acme: Organisation, client: Client) -> None:
    twin = provider_keys.add_provider_key(name="twin", provider="anthropic", secret=SECRET)
    read(acme)
    person(client, Role.BILLING_ADMIN)
    assert "2 fit" in text(client, "reported-keys/")
    assert "1 reported key may be several" in text(client, "reconciliation/", **NOVEMBER)
    client.post(f"{BASE}reported-keys/", {"row": ReportedKey.objects.get().pk, "provider_key": twin.pk})
    assert (ReportedKey.objects.get().provider_key, ReportedKey.objects.get().chosen) == (twin, True)
    event = AuditEvent.objects.filter(table_name="reconciliation_reportedkey", action="changed").latest("id")
    assert event.changes["provider_key_id"]["to"] == str(twin.pk)


def test_an_admin_key_is_added_tested_and_never_shown(acme: Organisation, client: Client) -> None:
    person(client, Role.KEY_ADMIN)
    given = {
        "name": "second",
        "provider": "anthropic",
        "base_url": acme.admin_key.base_url,
        "requests_a_minute": "60",
        "active": "on",
        "secret": acme.reports.secret,
    }
    answer = client.post("/admin/reconciliation/adminkey/add/", given, follow=True)
    shown = answer.content.decode()
    assert "it reads the Usage and Cost Analytics API" in html.unescape(shown)
    row = AdminKey.objects.get(name="second")
    pages = [shown, client.get(f"/admin/reconciliation/adminkey/{row.pk}/change/").content.decode()]
    pages.append(json.dumps(list(AuditEvent.objects.order_by("-id").values("changes")[:20])))
    assert all(acme.reports.secret[:20] not in page for page in pages)
    assert row.secret_hint == "ssss"
    answer = client.post("/admin/reconciliation/adminkey/add/", given | {"name": "", "secret": acme.reports.secret})
    assert acme.reports.secret not in answer.content.decode()


def test_a_bill_is_uploaded_with_a_format(acme: Organisation, client: Client) -> None:
    person(client, Role.BILLING_ADMIN)
    given = {
        "name": "focus",
        "provider_key": acme.key.pk,
        "preset": "focus",
        "tokens_in_unit": "",
        "columns": "",
        "meters": "*opus*input* = claude-opus-5-5, input_tokens",
    }
    answer = client.post("/admin/reconciliation/billformat/add/", given, follow=True)
    assert answer.status_code == 200
    format_ = BillFormat.objects.get(name="focus")
    assert (format_.columns["cost"], format_.meters[0]["token_type"]) == ("EffectiveCost", "input_tokens")
    lines = (
        "ChargePeriodStart,ChargeDescription,EffectiveCost,ConsumedQuantity,BillingCurrency\n"
        "2026-11-03T00:00:00Z,Opus input,1.25,1000,USD\n2026-11-03T00:00:00Z,Storage,0.5,1,USD\n"
    )

    def upload() -> str:
        file = SimpleUploadedFile("november.csv", lines.encode(), "text/csv")
        answer = client.post(f"{BASE}bills/", {"format": format_.pk, "file": file}, follow=True)
        return html.unescape(answer.content.decode())

    assert "Meter without a pattern" in upload()
    assert "uploaded before" in upload()
    assert Bill.objects.get().amount == Decimal("1.75")
    assert "bills of focus" in text(client, "reconciliation/", **NOVEMBER)


def test_each_page_asks_few_queries(acme: Organisation, client: Client) -> None:
    plant(acme)
    person(client)
    client.get(BASE + "reconciliation/")
    pk = acme.key.pk
    for path in ("", f"{pk}/", f"{pk}/hours/", f"{pk}/adjust/"):
        with CaptureQueriesContext(connection) as queries:
            text(client, f"reconciliation/{path}", month="2026-11", day="2026-11-03")
        assert len(queries) <= 40, path


def test_an_empty_month_says_what_to_do(acme: Organisation, client: Client) -> None:
    person(client)
    assert "reports are read every ten minutes" in text(client, "reconciliation/", month="2025-01")
    assert "No estimates were adjusted yet" in text(client, "adjusted-estimates/")
    AdminKey.objects.update(active=False)
    assert "Add an admin key" in text(client, "reconciliation/", month="nonsense")


def test_rest_serves_the_same(acme: Organisation, client: Client) -> None:
    plant(acme)
    user = User.objects.create_superuser("boss")
    _, secret = tokens.issue(user, "finance", ["reconciliation:write"], timezone.now() + timedelta(days=90))

    def ask(path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {secret}"}
        url = f"/api/v1/{path}"
        if body is None:
            return client.get(url, headers=headers).json()
        return client.post(url, json.dumps(body), content_type="application/json", headers=headers).json()

    rows = ask(f"reconciliation?provider_key_id={acme.key.pk}&since=2026-11-05T00:00:00Z&until=2026-11-06T00:00:00Z")
    [row] = rows["data"]
    assert Decimal(row["difference"]) == Decimal(row["causes"]["estimates"]) == Decimal(row["adjustable"])
    assert row["their_requests"] == row["our_requests"] == 1
    range_ = {"provider_key_id": acme.key.pk, "since": "2026-11-01T00:00:00Z", "until": "2026-12-01T00:00:00Z"}
    shown = ask("adjusted-estimates/preview", range_)
    assert (shown["calls"], shown["customers"][0]["customer"], shown["cost"]) == (1, "Ours", row["adjustable"])
    made = ask("adjusted-estimates", {**range_, "reason": "November"})
    assert (made["calls"], made["author"], made["undoes_id"]) == (1, "boss", None)
    assert ask("adjusted-estimates", {**range_, "reason": "November"})["error"]["code"] == "conflict"
    counter = ask(f"adjusted-estimates/{made['id']}/take_back", {"reason": "wrong"})
    assert counter["undoes_id"] == made["id"]
    assert "31 days" in json.dumps(ask("adjusted-estimates/preview", range_ | {"until": "2027-12-01T00:00:00Z"}))


def test_the_command_says_what_it_reads(acme: Organisation) -> None:
    acme.both(at(8))
    acme.counted(at(8, 12), requests=2)
    out, err = io.StringIO(), io.StringIO()
    call_command("reconcile", since=at(8).date(), stdout=out, stderr=err)
    assert "2026-11-08 usage: 24 periods read, " in err.getvalue()
    assert "other use 0.0" in out.getvalue()
    out = io.StringIO()
    call_command("reconcile", since=at(8).date(), compare_only=True, stdout=out, stderr=io.StringIO())
    assert "other use 0.0" in out.getvalue()
    with pytest.raises(CommandError, match="no admin key"):
        call_command("reconcile", since=MONTH.date(), admin_key="nope")
