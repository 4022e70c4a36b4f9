"""What is wrong with a query is refused by the parameter's name; what its times and filters mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from django.http import QueryDict
from hypothesis import given, settings
from hypothesis import strategies as some

from administration.analytics.pages import Cursor, check_end, read_cursor
from administration.analytics.queries import FILTERS, end_of, read
from keys.errors import Unusable
from tests.support.finance import MONTH, SINCE, UNTIL

NOW = datetime(2026, 11, 30, 13, 37, 21, tzinfo=UTC)
SIX = ("api_key_id", "model", "speed", "service_tier", "workspace_id", "product")


@pytest.mark.parametrize(
    ("query", "begins"),
    [
        ([("ending_at", UNTIL)], "starting_at: is required"),
        ([("starting_at", "2026-11-01")], "starting_at: is no time"),
        ([("starting_at", "2026-11-01T00:00:00")], "starting_at: is no time"),
        ([("starting_at", "2299-01-01T00:00:00Z")], "starting_at: is no time"),
        ([("starting_at", "2199-01-01T00:00:00Z")], "starting_at: lies in the future"),
        ([("starting_at", SINCE), ("starting_at", UNTIL)], "starting_at: is given twice"),
        ([("starting_at", UNTIL), ("ending_at", SINCE)], "ending_at: must be after"),
        ([("starting_at", SINCE), ("ending_at", "2026-12-02T00:15:00Z")], "ending_at: the range may span 31 days"),
        ([("starting_at", SINCE), ("time_bucket_width", "1d")], "ending_at: is required with"),
        ([*MONTH, ("time_bucket_width", "1m")], "time_bucket_width: sums have no minutes"),
        ([*MONTH, ("time_bucket_width", "1w")], "time_bucket_width: “1w” is not a value"),
        ([*MONTH, ("group_by[]", "colour")], "group_by[]: “colour” is not a value"),
        ([*MONTH, ("group_by[]", "cost_type")], "group_by[]: “cost_type” is not a value"),
        ([*MONTH, *(("group_by[]", name) for name in SIX)], "group_by[]: takes 5 dimensions"),
        ([*MONTH, ("group_by", "model")], "group_by: there is no such parameter: write group_by[]"),
        ([*MONTH, ("colour", "blue")], "colour: there is no such parameter"),
        ([*MONTH, ("api_key_ids[]", "sk-bf-1")], "api_key_ids[]: “sk-bf-1” is no id"),
        ([*MONTH, ("workspace_ids[]", "apikey_1")], "workspace_ids[]: “apikey_1” is no id"),
        ([*MONTH, ("service_tiers[]", "gold")], "service_tiers[]: “gold” is not a value"),
        ([*MONTH, ("speeds[]", "slow")], "speeds[]: “slow” is not a value"),
        ([*MONTH, ("inference_geos[]", "us")], "inference_geos[]: the sums here don't tell"),
        ([*MONTH, ("models[]", "a\0b")], "models[]: has a NUL"),
        ([*MONTH, ("order_by", "amount")], "order_by: “amount” is not a value"),
        ([*MONTH, ("order", "up")], "order: “up” is not a value"),
        ([*MONTH, ("limit", "0")], "limit: must be a whole number"),
        ([*MONTH, ("limit", "1001")], "limit: must be a whole number"),
        ([*MONTH, ("limit", "many")], "limit: must be a whole number"),
        ([*MONTH, ("exclude_deleted_users", "true")], "exclude_deleted_users: needs group_by"),
    ],
)
def test_what_is_wrong_is_named(query: list[tuple[str, str]], begins: str) -> None:
    with pytest.raises(Unusable) as error:
        end_of(read("usage", QueryDict(urlencode(query))), NOW)
    assert str(error.value).startswith(begins)


def test_an_open_range_ends_at_the_hour_or_after_31_days() -> None:
    recent = read("usage", QueryDict("starting_at=2026-11-29T10:20:00Z&ending_at="))
    assert (recent.since, end_of(recent, NOW)) == (
        datetime(2026, 11, 29, 10, tzinfo=UTC),
        datetime(2026, 11, 30, 13, tzinfo=UTC),
    )
    older = read("usage", QueryDict("starting_at=2026-09-01T00:00:00%2B02:00"))
    assert end_of(older, NOW) == datetime(2026, 10, 1, 22, tzinfo=UTC)


def test_a_cursor_of_an_open_range_ends_at_an_hour_of_it() -> None:
    query = read("usage", QueryDict("starting_at=2026-11-29T10:20:00Z"))
    end = end_of(query, NOW)
    for until in (end, end - timedelta(hours=1), query.since):
        check_end(until, query, NOW)
    for until in (end + timedelta(hours=1), query.since - timedelta(hours=1), end - timedelta(minutes=15)):
        with pytest.raises(Unusable, match="page: is no cursor of this query"):
            check_end(until, query, NOW)


def test_the_filters_are_those_of_anthropics_client() -> None:
    params = pytest.importorskip("anthropic.types.beta.organization.analytics.cost_list_params").CostListParams
    theirs = {name for name in params.__annotations__ if name.endswith("s") and name != "betas"}
    assert {name.removesuffix("[]") for name in FILTERS} == theirs - {"exclude_deleted_users"}


@given(some.integers(1, 10**6), some.text("0123456789abcdef", max_size=32))
def test_a_cursor_is_read_as_it_was_written(place: int, digest: str) -> None:
    cursor = Cursor(place, NOW, NOW, digest, digest)
    assert read_cursor(cursor.text()) == cursor


@settings(max_examples=30)
@given(some.text())
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(Unusable, match="page: "):
        read_cursor(text)
