"""Reports in Anthropic's shape: rows, groups, filters, order, pages and errors, and what each role sees."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import Sum

from administration.role_names import Role
from administration.roles import giving
from tests.support.finance import MONTH, SINCE, UNTIL, Finance, at, made_calls, token_of, usd
from tests.support.gateway import empty, using
from tests.support.ledger_rows import Cast, empty_ledger, make_cast
from usage import rollups
from usage.models import LedgerEntry
from usage.questions import NotWholeYet

HOURS = [*MONTH, ("time_bucket_width", "1h"), ("order_by", "time"), ("order", "asc")]
BY_KEY = ("group_by[]", "api_key_id")
SIX = ("api_key_id", "model", "speed", "service_tier", "workspace_id", "product")


@pytest.fixture(scope="module")
def cast(apart_database: str, django_db_blocker: Any) -> Iterator[Cast]:
    """Who has called. Tests only read, so all of them share one database."""
    with django_db_blocker.unblock(), using(apart_database, keep=True):
        empty()
        empty_ledger()
        cast = make_cast()
        made_calls(cast)
        rollups.roll_up()
        yield cast
        empty()
        empty_ledger()


@pytest.fixture(scope="module")
def finance(cast: Cast) -> Finance:
    return Finance(token_of(User.objects.create_superuser("boss")))


def owed() -> Decimal:
    """What the ledger says that owners pay."""
    return sum((row.owed for row in LedgerEntry.objects.all()), Decimal(0))


def refused(answer, status: int, kind: str) -> str:
    """Check that this is an error in Anthropic's shape; returns its message."""
    assert answer.status_code == status, answer.content
    body = answer.json()
    assert (body["type"], body["error"]["type"], body["request_id"]) == ("error", kind, answer["request-id"])
    message: str = body["error"]["message"]
    return message


def test_a_range_without_groups_is_one_row_with_the_sums_of_the_ledger(finance: Finance) -> None:
    [used], [paid] = finance.rows("usage", MONTH), finance.rows("cost", MONTH)
    sums = LedgerEntry.objects.aggregate(
        i=Sum("input_tokens"), o=Sum("output_tokens"), r=Sum("cache_read_input_tokens")
    )
    assert used["usage"] == {
        "uncached_input_tokens": sums["i"],
        "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 3},
        "cache_read_input_tokens": sums["r"],
        "output_tokens": sums["o"],
        "total_tokens": sums["i"] + sums["o"] + sums["r"] + 8,
        "server_tool_use": {"web_search_requests": 2},
        "requests": 6,
    }
    assert (used["starting_at"], used["ending_at"], set(used["group"].values())) == (SINCE, UNTIL, {None})
    assert usd(paid) == owed() == Decimal("16.584567890123")
    assert paid["cost"] == {
        "amount": "1658.4567890123",
        "list_amount": "1658.4567890123",
        "currency": "USD",
        "requests": 6,
    }


def test_a_range_without_calls_is_a_row_of_zeros_and_has_no_groups(finance: Finance) -> None:
    query = [("starting_at", "2026-10-01T00:00:00Z"), ("ending_at", "2026-10-02T00:00:00Z")]
    [row] = finance.rows("cost", query)
    assert (row["cost"]["amount"], row["cost"]["requests"]) == ("0", 0)
    assert finance.rows("cost", [*query, BY_KEY]) == []
    assert finance.rows("usage", [*query, ("time_bucket_width", "1d")]) == []


def test_rows_of_hours_have_the_bounds_of_their_bucket_and_all_groups(finance: Finance, cast: Cast) -> None:
    groups = ("api_key_id", "workspace_id", "model", "service_tier", "speed")
    rows = finance.rows("usage", [*HOURS, *(("group_by[]", name) for name in groups)])
    alice, team = f"apikey_{cast.alice.pk}", f"wrkspc_{cast.alice.team_id}"
    found = [(row["starting_at"], *(row["group"][name] for name in groups), row["usage"]["requests"]) for row in rows]
    opus, haiku = "claude-opus-5-5", "claude-haiku-5-5"
    assert found == [
        # A tier that the provider didn't report is the standard one.
        ("2026-11-02T09:00:00Z", alice, team, opus, "standard", "standard", 2),
        ("2026-11-02T10:00:00Z", alice, team, opus, "priority", "fast", 1),
        ("2026-11-03T10:00:00Z", f"apikey_{cast.bob.pk}", team, haiku, "batch", "standard", 1),
        ("2026-11-03T23:00:00Z", f"apikey_{cast.charlie.pk}", None, opus, "standard", "standard", 1),
        ("2026-11-30T23:00:00Z", f"apikey_{cast.charlie.pk}", None, haiku, "standard", "standard", 1),
    ]
    assert rows[0]["ending_at"] == "2026-11-02T10:00:00Z"
    assert rows[0]["group"]["inference_geo"] is rows[0]["group"]["session_id"] is None


def test_a_bucket_has_what_lies_in_the_range_only(finance: Finance) -> None:
    query = [
        ("starting_at", "2026-11-02T09:45:00Z"),
        ("ending_at", "2026-11-03T00:00:00Z"),
        ("time_bucket_width", "1d"),
    ]
    [row] = finance.rows("usage", query)
    assert (row["starting_at"], row["usage"]["requests"]) == ("2026-11-02T00:00:00Z", 2)


def test_the_actor_of_a_call_is_its_key(finance: Finance, cast: Cast) -> None:
    by = [("group_by[]", "actor"), ("group_by[]", "actor_type")]
    rows = finance.rows("usage", [*MONTH, *by, ("actor_ids[]", f"apikey_{cast.bob.pk}"), ("actor_ids[]", "user_1")])
    assert [(row["group"]["actor"], row["group"]["actor_type"]) for row in rows] == [
        ({"type": "api_actor", "api_key_id": f"apikey_{cast.bob.pk}"}, "api_actor")
    ]


def test_money_is_split_by_cost_type_and_type_of_tokens_and_the_parts_are_the_whole(finance: Finance) -> None:
    def parts(*names: str) -> dict[tuple[str | None, str | None], Decimal]:
        rows = finance.rows("cost", [*MONTH, *(("group_by[]", name) for name in names)])
        assert {row["cost"]["requests"] for row in rows} == {None}
        return {(row["group"]["cost_type"], row["group"]["token_type"]): usd(row) for row in rows}

    rest, searches = owed() - Decimal("0.85"), Decimal("0.04")
    assert parts("cost_type", "token_type") == {
        ("tokens", "uncached_input_tokens"): Decimal("0.25"),
        ("tokens", "output_tokens"): Decimal("0.5"),
        ("tokens", "cache_read_input_tokens"): Decimal("0.01"),
        ("tokens", "cache_creation.ephemeral_5m_input_tokens"): Decimal("0.02"),
        ("tokens", "cache_creation.ephemeral_1h_input_tokens"): Decimal("0.03"),
        # Money that belongs to no category.
        ("tokens", None): rest,
        ("web_search", None): searches,
    }
    assert parts("cost_type") == {("tokens", None): owed() - searches, ("web_search", None): searches}
    assert sum(parts("token_type").values()) == owed() - searches


def test_the_most_used_and_the_most_expensive_come_first_unless_another_order_is_asked_for(
    finance: Finance, cast: Cast
) -> None:
    def order(report: str, *more: tuple[str, str]) -> list[str]:
        names = {f"apikey_{key.pk}": key.name for key in (cast.alice, cast.bob, cast.charlie)}
        return [names[row["group"]["api_key_id"]] for row in finance.rows(report, [*MONTH, BY_KEY, *more])]

    assert order("usage") == ["alice", "charlie", "bob"]
    assert order("cost") == ["charlie", "alice", "bob"]
    assert order("cost", ("order", "asc")) == ["bob", "alice", "charlie"]
    assert order("cost", ("order_by", "time"), ("order", "asc")) == ["bob", "alice", "charlie"]
    assert order("usage", ("order_by", "requests"), ("order", "asc")) == ["bob", "charlie", "alice"]
    days = [*MONTH, ("time_bucket_width", "1d"), ("order_by", "time")]
    assert [row["starting_at"][8:10] for row in finance.rows("cost", days)] == ["30", "03", "02"]


def test_filters_take_what_answers_have(finance: Finance, cast: Cast) -> None:
    def count(*filters: tuple[str, str]) -> int:
        [row] = finance.rows("usage", [*MONTH, *filters])
        requests: int = row["usage"]["requests"]
        return requests

    alice, bob = (f"apikey_{key.pk}" for key in (cast.alice, cast.bob))
    assert count(("api_key_ids[]", alice), ("api_key_ids[]", bob)) == 4
    assert count(("api_key_ids[]", "")) == 0
    assert count(("workspace_ids[]", f"wrkspc_{cast.alice.team_id}")) == 4
    assert count(("workspace_ids[]", "")) == 2
    assert count(("models[]", "Claude-Haiku-5-5")) == 2
    assert count(("service_tiers[]", "standard")) == 4
    assert count(("service_tiers[]", "priority"), ("service_tiers[]", "batch")) == 2
    assert count(("speeds[]", "standard")) == 5
    assert count(("speeds[]", "fast"), ("api_key_ids[]", bob)) == 0
    assert count(("session_ids[]", "sesn_1")) == 0
    assert count(("actor_types[]", "user_actor")) == 0
    assert count(("actor_types[]", "api_actor")) == 6


def test_a_limit_counts_rows_and_not_their_parts_and_pages_join_without_a_gap(finance: Finance) -> None:
    query = [*HOURS, BY_KEY, ("group_by[]", "cost_type"), ("group_by[]", "token_type")]
    first = finance.page("cost", [*query, ("limit", "2")])
    assert len(first["data"]) == 8
    assert {row["starting_at"] for row in first["data"]} == {"2026-11-02T09:00:00Z", "2026-11-02T10:00:00Z"}
    assert finance.rows("cost", [*query, ("limit", "2")]) == finance.rows("cost", query)
    assert sum(map(usd, finance.rows("cost", [*query, ("limit", "1")]))) == owed()


def with_end(cursor: str, end: datetime) -> str:
    """A cursor whose range ends at another time."""
    parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    parts[1] = end.timestamp()
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def test_no_cursor_makes_a_range_longer_than_its_query(finance: Finance) -> None:
    query = [*HOURS, ("limit", "1")]
    cursor = finance.page("usage", query)["next_page"]
    for end in (at(30) + timedelta(days=365), datetime(8999, 1, 1, tzinfo=UTC), at(29), at(1) - timedelta(days=1)):
        message = refused(finance.ask("usage", [*query, ("page", with_end(cursor, end))]), 400, "invalid_request_error")
        assert message.startswith("page: is no cursor of this query")
    assert finance.page("usage", [*query, ("page", cursor)])["data"]


def test_a_cursor_of_another_query_or_person_is_refused(finance: Finance) -> None:
    query = [*HOURS, ("limit", "2")]
    cursor = finance.page("usage", query)["next_page"]
    for report, other in (
        ("cost", query),
        ("usage", [*HOURS, ("limit", "3")]),
        ("usage", [*query, ("models[]", "claude-opus-5-5")]),
    ):
        message = refused(finance.ask(report, [*other, ("page", cursor)]), 400, "invalid_request_error")
        assert message.startswith("page: the cursor belongs to another query")
    other_person = Finance(token_of(User.objects.create_superuser("another")))
    refused(other_person.ask("usage", [*query, ("page", cursor)]), 400, "invalid_request_error")
    for nonsense in ("x", "bnVsbA", cursor[:-4], "W10", "e30"):
        message = refused(finance.ask("usage", [*query, ("page", nonsense)]), 400, "invalid_request_error")
        assert message.startswith("page: ")


def test_an_answer_that_would_read_too_many_sums_says_what_to_do(
    finance: Finance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("administration.analytics.rows.MOST_SUMS", 2)
    message = refused(finance.ask("usage", [*HOURS, BY_KEY]), 400, "invalid_request_error")
    assert "choose a shorter range" in message


def test_sums_that_are_made_again_are_a_fault_of_the_gateway_for_a_while(
    finance: Finance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_yet(*_: object) -> None:
        raise NotWholeYet(at(20))

    monkeypatch.setattr("administration.analytics.rows.ask", not_yet)
    answer = finance.ask("usage", MONTH)
    refused(answer, 503, "api_error")
    assert int(answer["retry-after"]) > 0


def test_credentials_that_open_no_reports_are_refused(finance: Finance, cast: Cast) -> None:
    token = finance.headers["x-api-key"]
    assert "No credential" in refused(finance.ask("usage", MONTH, headers={}), 401, "authentication_error")
    for headers in (
        {"x-api-key": token},
        {"authorization": f"Bearer {token}"},
        {"x-api-key": "sk-ant-1", "authorization": f"bearer {token}"},
    ):
        assert finance.ask("usage", MONTH, headers=headers).status_code == 200
    virtual = refused(
        finance.ask("usage", MONTH, headers={"x-api-key": "sk-bf-" + "x" * 49}), 401, "authentication_error"
    )
    assert virtual.startswith("A virtual key opens no reports.")
    refused(finance.ask("usage", MONTH, headers={"x-api-key": token[:-1] + "!"}), 401, "authentication_error")


def test_too_many_wrong_tokens_wait_and_a_right_one_does_not(finance: Finance) -> None:
    token = finance.headers["x-api-key"]
    guesser = Finance(token[:-1] + "!", "192.0.2.7")
    answers = [guesser.ask("usage", MONTH) for _ in range(31)]
    assert [answer.status_code for answer in answers] == [401] * 30 + [429]
    refused(answers[-1], 429, "rate_limit_error")
    assert answers[-1]["retry-after"] == "20"
    assert Finance(token, "192.0.2.7").ask("usage", MONTH).status_code == 200


def test_a_token_needs_the_scope_and_its_person_a_role(finance: Finance) -> None:
    boss = User.objects.get(username="boss")
    message = refused(Finance(token_of(boss, "calls:read")).ask("usage", MONTH), 403, "permission_error")
    assert message == "This token lacks the scope usage:read."
    nobody = Finance(token_of(User.objects.create_user("nobody", is_staff=True), "all:read"))
    assert "Roles that may" in refused(nobody.ask("cost", MONTH), 403, "permission_error")


def test_people_see_the_usage_that_their_roles_include(cast: Cast) -> None:
    def keys(role: Role, **scope: Any) -> set[str]:
        user = User.objects.create_user(f"{role} {len(scope)}")
        giving.give(None, user, role, **scope)
        rows = Finance(token_of(user)).rows("cost", [*MONTH, BY_KEY])
        return {row["group"]["api_key_id"] for row in rows}

    alice, bob, charlie = (f"apikey_{key.pk}" for key in (cast.alice, cast.bob, cast.charlie))
    assert keys(Role.FINANCE) == {alice, bob, charlie}
    assert keys(Role.TEAM_ADMIN, team=cast.alice.team) == {alice, bob}
    assert keys(Role.KEY_ADMIN, customer=cast.charlie.customer) == {charlie}
    assert keys(Role.MEMBER) == set()


def test_other_methods_and_pages_of_errors_have_the_shape_too(finance: Finance) -> None:
    answer = finance.ask("usage", MONTH, "POST")
    refused(answer, 405, "invalid_request_error")
    assert answer["allow"] == "GET"
    assert finance.ask("usage", MONTH, "HEAD").status_code == 200
    wrong_host = finance.ask("usage", MONTH, headers=finance.headers | {"host": "bad host"})
    refused(wrong_host, 400, "invalid_request_error")


def test_no_cache_keeps_an_answer_and_each_has_an_id(finance: Finance) -> None:
    one, other = finance.ask("usage", MONTH), finance.ask("usage", MONTH)
    assert one["cache-control"] == "no-store"
    assert one["request-id"].startswith("req_")
    assert one["request-id"] != other["request-id"]
