"""The list of calls with its filters and its export, and the page of one call."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from administration.calls import filters
from keys.audit.models import AuditEvent
from tests.support.ledger_rows import START, empty_ledger, make_cast, make_entry
from usage import request_ids
from usage.models import Adjustment

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast():
    empty_ledger()
    return make_cast()


@pytest.fixture
def admin(client):
    client.force_login(User.objects.create_superuser("admin"))
    return client


def listed(client, **query):
    page = client.get("/admin/calls/", query)
    assert page.status_code == 200
    assert page.context["form"].errors == {}
    return [row.pk for row in page.context["part"].rows]


@pytest.mark.parametrize(
    ("given", "query"),
    [
        ({"model": "claude-haiku-5-5"}, {"model": "Claude-Haiku-5-5"}),
        ({"model": "claude-haiku-5-5"}, {"model": "*haiku*"}),
        ({"status": "failed"}, {"status": "failed"}),
        ({"status": "failed"}, {"status": "problem"}),
        ({"stop_reason": "refusal"}, {"stop_reason": "refusal"}),
        ({"stream": True}, {"stream": "yes"}),
        ({"estimated": True}, {"price": "estimated"}),
        ({"price_flag": "unpriced"}, {"price": "unpriced"}),
        ({"client_labels": {"claude_code_session": "s-1"}}, {"session": "s-1"}),
        ({"labels": {"project": "atlas"}}, {"label": "project=atlas"}),
        ({"client_labels": {"request_id": "r 1"}}, {"label": "request_id=r 1"}),
        ({"cost": "2.5"}, {"cost_above": "2"}),
        ({"duration_ms": 31_000}, {"seconds_above": "30.5"}),
        ({"at": START + timedelta(days=2)}, {"since": "2026-11-03T00:00"}),
        ({"at": START - timedelta(days=2)}, {"until": "2026-11-01T00:00"}),
    ],
)
def test_calls_are_filtered(cast, admin, given, query):
    wanted = make_entry(cast.alice, **given)
    other = make_entry(cast.bob)
    assert set(listed(admin)) == {wanted, other}
    assert listed(admin, **query) == [wanted]


def test_calls_are_filtered_by_who_made_them_and_where_they_went(cast, admin):
    alice = make_entry(cast.alice, provider_key=cast.provider_key)
    bob, charlie = make_entry(cast.bob), make_entry(cast.charlie)
    assert listed(admin, key=cast.alice.pk) == [alice]
    assert set(listed(admin, team=cast.alice.team_id)) == {alice, bob}
    assert listed(admin, customer=cast.charlie.customer_id) == [charlie]
    assert listed(admin, provider_key=cast.provider_key.pk) == [alice]
    assert listed(admin, customer=cast.alice.customer_id, key=cast.bob.pk, status="completed") == [bob]
    assert listed(admin, customer=cast.charlie.customer_id, key=cast.bob.pk) == []


def test_each_page_begins_where_the_one_before_ended(cast, admin, monkeypatch):
    monkeypatch.setattr(filters, "PAGE", 3)
    calls = sorted((make_entry(cast.alice, at=START + timedelta(seconds=number)) for number in range(7)), reverse=True)
    seen, query = [], "?"
    for _ in range(3):
        page = admin.get(f"/admin/calls/{query}")
        seen += [row.pk for row in page.context["part"].rows]
        query = f"?{page.context['next_query']}"
    assert seen == calls
    assert query == "?"


def test_a_page_looks_at_a_bounded_number_of_rows_and_says_how_far_back(cast, admin, monkeypatch):
    monkeypatch.setattr(filters, "LOOKED_AT", 5)
    rare = make_entry(cast.alice, at=START, stop_reason="refusal")
    for number in range(1, 9):
        make_entry(cast.alice, at=START + timedelta(minutes=number))
    page = admin.get("/admin/calls/", {"stop_reason": "refusal"})
    assert page.context["part"].rows == []
    assert "Search further back" in page.content.decode()
    further = admin.get(f"/admin/calls/?{page.context['next_query']}")
    assert [row.pk for row in further.context["part"].rows] == [rare]
    assert further.context["part"].next is None


def test_the_export_has_the_rows_of_the_filter_and_is_in_the_audit_log(cast, admin, monkeypatch):
    monkeypatch.setattr(filters, "LOOKED_AT", 2)
    calls = [make_entry(cast.alice, at=START + timedelta(seconds=number), stop_reason="x") for number in range(5)]
    make_entry(cast.alice, at=START + timedelta(seconds=2))
    answer = admin.get("/admin/calls/", {"stop_reason": "x", "format": "csv"})
    assert answer.streaming
    rows = list(csv.DictReader(io.StringIO(answer.getvalue().decode("utf-8-sig"))))
    assert [row["request_id"] for row in rows] == [request_ids.request_id(call) for call in sorted(calls)]
    assert AuditEvent.objects.filter(action="exported", table_name="usage_ledgerentry").exists()


def test_wrong_conditions_show_a_message_and_no_calls(cast, admin):
    make_entry(cast.alice)
    for query in ({"label": "project"}, {"since": "2026-11-03T00:00", "until": "2026-11-01T00:00"}, {"customer": "x"}):
        page = admin.get("/admin/calls/", query)
        assert page.status_code == 200
        assert page.context["part"] is None
        assert "errorlist" in page.content.decode()
    assert admin.get("/admin/calls/", {"before": "nonsense"}).status_code == 200


def test_the_page_of_a_call_shows_its_attempts_its_bill_and_its_ids(cast, admin):
    attempts = [
        {"provider_key": "main", "model": "m", "http_status": 529, "error_type": "overloaded_error", "duration_ms": 40},
        {"provider_key": "other", "model": "m", "http_status": 200, "error_type": "", "duration_ms": 1900, "cost": "1"},
    ]
    call = make_entry(
        cast.alice,
        attempts=attempts,
        input_tokens=1_000_000,
        cost="3.5",
        model="claude-sonnet-4-5",
        labels={"project": "<atlas>"},
        client_labels={"claude_code_session": "s-1"},
        at=timezone.now(),
    )
    Adjustment.objects.create(entry_id=call, reason="correction", cost="-0.25")
    page = admin.get(f"/admin/calls/{request_ids.request_id(call)}/").content.decode()
    for text in (
        "HTTP 529 overloaded_error",
        "other",
        "$3.50",
        "-$0.25",
        "&lt;atlas&gt;",
        "session=s-1",
        "req_upstream",
    ):
        assert text in page
    assert page.count("<rect") == 2


def test_the_bill_of_a_call_adds_up_to_its_cost(cast):
    from administration.calls import details
    from usage.models import LedgerEntry

    call = make_entry(cast.alice, cost="0.123456789012", model="claude-opus-4-5", web_search_requests=2)
    row = LedgerEntry.objects.get(pk=call)
    assert sum(line.amount for line in details.bill(row)) == row.cost


def test_a_call_that_is_not_there_has_no_page(admin):
    for call in ("nonsense", request_ids.request_id(request_ids.new_id())):
        assert admin.get(f"/admin/calls/{call}/").status_code == 404


def test_a_list_makes_as_many_queries_for_many_calls_as_for_few(cast, admin, django_assert_max_num_queries):
    def count():
        with django_assert_max_num_queries(25) as queries:
            listed(admin, status="completed", key=cast.alice.pk)
        return len(queries)

    make_entry(cast.alice, provider_key=cast.provider_key)
    count()  # fills Django's caches
    few = count()
    for _ in range(9):
        make_entry(cast.alice, provider_key=cast.provider_key)
    assert count() == few


def test_an_admin_of_one_team_lists_its_calls_alone(cast, client):
    from administration.role_names import Role
    from administration.roles import giving

    alice, charlie = make_entry(cast.alice), make_entry(cast.charlie)
    user = User.objects.create_user("tina", is_staff=True)
    giving.give(None, user, Role.TEAM_ADMIN, team=cast.alice.team)
    client.force_login(user)
    assert listed(client) == [alice]
    assert client.get(f"/admin/calls/{request_ids.request_id(charlie)}/").status_code == 404
    exported = client.get("/admin/calls/", {"format": "csv"}).getvalue().decode()
    assert request_ids.request_id(alice) in exported
    assert request_ids.request_id(charlie) not in exported


def test_the_filter_and_its_time_zone_are_in_each_kind_of_file(cast, admin):
    make_entry(cast.alice, stop_reason="x", cost="0.000000000001")
    page = admin.get("/admin/calls/", {"stop_reason": "x"}).content.decode()
    for kind in ("csv", "xlsx", "json"):
        assert f'href="?stop_reason=x&amp;format={kind}"' in page
    answer = admin.get("/admin/calls/", {"stop_reason": "x", "format": "json"})
    found = json.loads(answer.getvalue())
    assert (found["about"]["filter"], found["about"]["time_zone"]) == ("stop_reason=x", "UTC")
    assert [row["cost"] for row in found["rows"]] == ["0.000000000001"]
    assert 'filename="calls.json"' in answer["content-disposition"]
    event = AuditEvent.objects.filter(action="exported", table_name="usage_ledgerentry").latest("id")
    assert event.changes["format"] == {"to": "json"}


def test_a_format_that_does_not_exist_is_refused_with_those_that_do(admin):
    answer = admin.get("/admin/calls/", {"format": "<pdf>"})
    assert answer.status_code == 400
    assert "There is no format “&lt;pdf&gt;”. Choose one of these: csv, xlsx, json." in answer.content.decode()


def test_people_who_may_see_calls_and_not_export_them_get_no_file(cast, client):
    from administration.role_names import Role
    from administration.roles import giving

    user = User.objects.create_user("mo", is_staff=True)
    giving.give(None, user, Role.MEMBER)
    client.force_login(user)
    assert client.get("/admin/calls/", {"format": "csv"}).status_code == 403
