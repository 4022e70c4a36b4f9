"""Pages of calls say which months are archived, and where."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from tests.support.rest import Program
from usage import request_ids
from usage.archived import State
from usage.models import ArchivedMonth

MARCH, APRIL = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC)
WHERE = "2025-03 is archived in /archive"


@pytest.fixture
def boss(client: Any, db: None) -> Any:
    """A superuser's client, and a month that is archived."""
    client.force_login(User.objects.create_superuser("boss"))
    ArchivedMonth.objects.create(
        month=date(2025, 3, 1),
        state=State.DROPPED,
        first_id=request_ids.first_id(MARCH),
        end_id=request_ids.first_id(APRIL),
        since=MARCH,
        until=APRIL,
        below_xid="7",
        folder="/archive",
        manifest={},
        archived_at=APRIL,
        archived_by="test",
    )
    return client


def test_the_page_of_an_archived_call_says_where_it_is(boss: Any) -> None:
    call = request_ids.request_id(request_ids.first_id(datetime(2025, 3, 9, tzinfo=UTC)))
    answer = boss.get(reverse("admin:call", args=[call]))
    assert answer.status_code == 404
    assert "ledger-2025-03.csv.gz in /archive has them" in answer.content.decode()
    assert "archived" in boss.post(reverse("admin:find"), {"find": call}, follow=True).content.decode()
    other = request_ids.request_id(request_ids.first_id(APRIL))
    assert "/archive" not in boss.get(reverse("admin:call", args=[other])).content.decode()


def test_a_list_and_its_export_say_what_they_lack(boss: Any) -> None:
    url = reverse("admin:calls")
    assert WHERE in boss.get(url).content.decode()
    assert WHERE in boss.get(url, {"since": "2025-03-31T00:00"}).content.decode()
    assert WHERE not in boss.get(url, {"since": "2025-04-02T00:00"}).content.decode()
    named = boss.get(url, {"format": "csv"})["Content-Disposition"]
    assert named == 'attachment; filename="calls-without-2025-03.csv"'
    assert "calls.csv" in boss.get(url, {"format": "csv", "since": "2025-04-02T00:00"})["Content-Disposition"]


def test_the_api_names_the_archived_months_of_a_range(boss: Any) -> None:
    program = Program(User.objects.get(username="boss"))
    assert program.get("calls")["archived"] == ["2025-03"]
    assert program.get("calls?since=2025-04-02T00:00:00Z")["archived"] == []
    assert program.get("calls?until=2025-03-01T00:00:00Z")["archived"] == []
