"""The list of virtual keys as CSV: the rows that the list shows, and no more than the person may see."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from administration.role_names import Role
from keys import issuing, virtual_key_export
from keys.audit.models import AuditEvent
from keys.models import VirtualKey
from tests.support.company import make_person
from tests.support.issued import make_key
from tests.support.owner import boss as boss
from tests.support.owner import own_secrets as own_secrets

pytestmark = pytest.mark.django_db
URL = "admin:keys_virtualkey_export"


def pieces(client: Client, **filters: str) -> Any:
    answer: Any = client.get(reverse(URL), filters)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return iter(answer.streaming_content)


def rows(client: Client, **filters: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(pieces(client, **filters)).decode("utf-8-sig"))))


def test_the_file_has_the_rows_that_fit_the_lists_filter(boss: Client) -> None:
    key, plain = make_key("ci", owner="dora", labels={"project": "atlas"})
    other, _ = make_key("gone")
    issuing.revoke(other, reason="No longer used")
    page = boss.get(reverse("admin:keys_virtualkey_changelist"), {"state": "active"}).content.decode()
    assert f'href="{reverse(URL)}?state=active"' in page
    (row,) = rows(boss, state="active")
    assert row["key"].endswith(plain[-4:])
    assert plain not in str(row)
    assert row["labels"] == '{"project": "atlas"}'
    assert [row[name] for name in ("id", "name", "customer", "team", "owner", "state", "revoked_at")] == [
        *(str(key.pk), "ci", "Acme", "Research", "dora", "active", "")
    ]
    (row,) = rows(boss, q="gone")
    assert (row["state"], row["revoke_reason"]) == ("revoked", "No longer used")
    begun = AuditEvent.objects.filter(action="exported", table_name="keys_virtualkey")
    assert [event.changes for event in begun.order_by("id")] == [
        {"query": {"to": "state=active"}},
        {"searched": {"to": "yes"}},  # what is searched for may be a key
    ]


def test_a_spreadsheet_runs_no_name_as_a_formula(boss: Client) -> None:
    make_key("=HYPERLINK(1)", owner="+49 30 1")
    (row,) = rows(boss)
    assert (row["name"], row["owner"]) == ("'=HYPERLINK(1)", "'+49 30 1")


def test_each_person_gets_their_own_rows_and_the_ends_of_secrets_only_by_right(client: Client) -> None:
    make_key("own", owner="dora")
    make_key("other", owner="eve")
    client.force_login(make_person("dora", Role.MEMBER))
    (row,) = rows(client)
    assert (row["name"], row["key"]) == ("own", "")
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    assert client.get(reverse(URL)).status_code == 403


def test_keys_are_read_a_page_at_a_time_until_the_newest_of_the_beginning(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virtual_key_export, "PAGE", 2)
    for number in range(5):
        make_key(f"key {number}")
    parts = pieces(boss)
    assert next(parts).decode("utf-8-sig").startswith("id,name,")
    next(parts)
    make_key("later")
    more = b"".join(parts).decode()
    assert "key 4" in more
    assert "later" not in more
    assert VirtualKey.objects.count() == 6
