"""Admin keys, the keys that reports name, and bills of clouds by REST."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from keys.audit.models import AuditEvent
from keys.models import ProviderKey
from reconciliation import key_hints
from reconciliation.models import AdminKey, Bill, BillFormat, Comparison, ReportedKey
from reconciliation.reports.rows import ApiKey
from tests.support.reports_provider import FakeReports, serving
from tests.support.rest import Program, error

pytestmark = pytest.mark.django_db(transaction=True)
ORGANISATION = {"name": "organisation", "provider": "anthropic"}
CSV = b"day,meter,usd,tokens\n2026-11-03,opus-5-5-input,1.50,300\n2026-11-04,support,7,\n"
FORMAT = {
    "name": "cloud",
    "columns": {"start": "day", "meter": "meter", "cost": "usd", "quantity": "tokens"},
    "meters": [{"pattern": "opus-5-5-input", "model": "claude-opus-5-5", "token_type": "input_tokens"}],
}


def file_of(format_: int, content: bytes = CSV, name: str = "november.csv") -> dict[str, Any]:
    return {"format_id": format_, "filename": name, "content": base64.b64encode(content).decode()}


@pytest.fixture
def bedrock() -> ProviderKey:
    return ProviderKey.objects.create(name="bedrock", provider="bedrock", region="us-east-1")


def test_an_admin_key_is_added_tested_replaced_and_removed_and_its_secret_never_shown(program: Program) -> None:
    reports = FakeReports()
    error(program.ask("POST", "admin-keys", ORGANISATION), 400, "invalid")
    with serving(reports) as url:
        made = program.post("admin-keys", ORGANISATION | {"base_url": url, "secret": "sk-ant-admin01-wrong-one"})
        path = f"admin-keys/{made['id']}"
        assert (made["secret_hint"], made["reads"], made["active"]) == ("-one", "", True)
        assert "401" in program.post(f"{path}/test")["problem"]
        # A changed address needs the secret again, and every change the version that it changes.
        error(program.patch(path, {"base_url": "https://example.com"}), 400, "invalid")
        error(program.ask("PATCH", path, {"secret": reports.secret}), 428, "if_match_required")
        replaced = program.patch(path, {"secret": reports.secret})
        assert replaced.status_code == 200, replaced.content
        shown = program.post(f"{path}/test")
    assert (shown["reads"], shown["problem"]) == ("analytics", "")
    text = replaced.content.decode() + repr(list(AuditEvent.objects.values_list("changes", flat=True)))
    assert reports.secret[:20] not in text
    assert AuditEvent.objects.filter(table_name=AdminKey._meta.db_table).count() >= 2
    assert program.ask("DELETE", path).status_code == 204
    assert not AdminKey.objects.exists()


def test_an_admin_key_that_has_read_something_is_switched_off_instead(program: Program) -> None:
    made = program.post("admin-keys", ORGANISATION | {"secret": "sk-ant-admin01-x"})
    key_hints.note(AdminKey.objects.get(), [ApiKey("apikey_1", "ci", "sk-ant-api03-R2D...igAA", "active")])
    message = error(program.ask("DELETE", f"admin-keys/{made['id']}"), 409, "conflict")["message"]
    assert "active: false" in message
    assert program.patch(f"admin-keys/{made['id']}", {"active": False}).json()["active"] is False


def test_which_key_a_reported_one_is_can_be_chosen(program: Program, bedrock: ProviderKey) -> None:
    admin_key = AdminKey.objects.create(name="organisation", provider="anthropic")
    key_hints.note(admin_key, [ApiKey("apikey_1", "ci", "", "active")])
    ours = ProviderKey.objects.create(name="main", provider="anthropic")
    [row] = program.get(f"reported-keys?admin_key_id={admin_key.pk}")["data"]
    assert (row["api_key_id"], row["provider_key_id"], row["chosen"]) == ("apikey_1", None, False)
    path = f"reported-keys/{row['id']}"
    changed = program.patch(path, {"provider_key_id": ours.pk}).json()
    assert (changed["provider_key_id"], changed["chosen"]) == (ours.pk, True)
    assert set(error(program.patch(path, {"provider_key_id": bedrock.pk}), 400, "invalid")["fields"]) == {
        "provider_key_id"
    }
    error(program.patch(path, {"api_key_id": "apikey_2"}), 400, "invalid")
    assert program.patch(path, {"provider_key_id": None}).json()["provider_key_id"] is None
    assert ReportedKey.objects.get().chosen


def test_comparisons_of_a_range_are_added_up_by_provider_key(program: Program, bedrock: ProviderKey) -> None:
    whole, dust = Decimal("3.0000000000000000000000000001"), Decimal("0.0000000000000000000000000001")
    terms = {"provider_key": bedrock, "model": "claude-opus-5-5", "mode": "standard"}
    for hour in (1, 2):
        at = datetime(2026, 11, 3, hour, tzinfo=UTC)
        Comparison.objects.create(start=at, theirs=whole, ours=1, fees=2, unexplained=dust, our_requests=1, **terms)
    Comparison.objects.create(start=datetime(2026, 12, 1, tzinfo=UTC), theirs=9, **terms)
    Comparison.objects.create(start=datetime(2026, 11, 3, tzinfo=UTC), theirs=9, api_key_id="apikey_others")
    november = "since=2026-11-01T00:00:00Z&until=2026-12-01T00:00:00Z"
    [line] = program.get(f"reconciliation/sums?{november}")["data"]
    assert (line["provider_key_id"], line["provider_key"]) == (bedrock.pk, "bedrock")
    assert (line["theirs"], line["ours"]) == ("6.0000000000000000000000000002", "2")
    assert (line["difference"], line["unexplained"]) == (
        "4.0000000000000000000000000002",
        "0.0000000000000000000000000002",
    )
    assert (line["causes"]["fees"], line["their_requests"], line["our_requests"]) == ("4", None, 2)
    assert set(error(program.ask("GET", "reconciliation/sums"), 400, "invalid")["fields"]) == {"since", "until"}


def test_a_bill_is_taken_once_by_its_format_and_what_no_pattern_fits_is_shown(
    program: Program, bedrock: ProviderKey
) -> None:
    made = program.post("bill-formats", FORMAT | {"provider_key_id": bedrock.pk})
    assert (made["tokens_in_unit"], made["meters"]) == (1, FORMAT["meters"])
    bill = program.post("bills", file_of(made["id"]), idempotency_key="november")
    assert (bill["lines"], bill["amount"], bill["first_day"], bill["last_day"]) == (
        2,
        "8.5",
        "2026-11-03",
        "2026-11-04",
    )
    assert bill["sha256"] == hashlib.sha256(CSV).hexdigest()
    assert program.post("bills", file_of(made["id"]), idempotency_key="november") == bill
    error(program.ask("POST", "bills", file_of(made["id"])), 409, "conflict")
    unmapped = program.get(f"bills/{bill['id']}/unmapped")
    assert unmapped == {"amount": "7", "meters": [{"meter": "support", "amount": "7"}]}
    meters = [*FORMAT["meters"], {"pattern": "support", "model": "claude-opus-5-5"}]
    changed = program.patch(f"bill-formats/{made['id']}", {"meters": meters})
    assert changed.json()["meters"][1]["token_type"] == ""
    assert program.get(f"bills/{bill['id']}/unmapped") == {"amount": "0", "meters": []}
    assert [each["id"] for each in program.get(f"bills?sha256={bill['sha256']}")["data"]] == [bill["id"]]
    assert Bill.objects.get().amount == Decimal("8.5")


def test_a_format_or_file_that_cannot_be_read_stores_nothing(program: Program, bedrock: ProviderKey) -> None:
    whole = FORMAT | {"provider_key_id": bedrock.pk}
    for member, value in (
        ("columns", {"start": "day"}),
        ("columns", whole["columns"] | {"colour": "x"}),  # type: ignore[operator]
        ("meters", [{"pattern": "a = b", "model": "m"}]),
        ("meters", [{"pattern": "a", "model": "m", "token_type": "thoughts"}]),
        ("provider_key_id", bedrock.pk + 999),
        ("tokens_in_unit", 0),
    ):
        fields = error(program.ask("POST", "bill-formats", whole | {member: value}), 400, "invalid")["fields"]
        assert all(name.startswith(member) for name in fields), fields
    made = program.post("bill-formats", whole)
    error(program.ask("POST", "bill-formats", whole), 400, "invalid")
    assert (
        "line 2"
        in error(program.ask("POST", "bills", file_of(made["id"], CSV.replace(b"1.50", b"x"))), 400, "invalid")[
            "message"
        ]
    )
    error(program.ask("POST", "bills", file_of(made["id"]) | {"content": "no base64"}), 400, "invalid")
    error(program.ask("POST", "bills", file_of(made["id"] + 999)), 400, "invalid")
    assert (BillFormat.objects.count(), Bill.objects.count()) == (1, 0)
