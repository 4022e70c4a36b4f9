"""GET /v1/usage, and the month in GET /v1/quota, over the wire."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import jsonschema
import pytest
from django.db import connection
from django.utils import timezone

from keys import issuing
from keys.models import Customer, Team, VirtualKey
from messages_api.reference.document import document
from messages_api.reference.usage import EXAMPLE
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, credentials, issue, message, post, refused, row
from tests.support.ledger_rows import make_entry
from usage import rollups
from usage.models import Adjustment, Budget, Limit, Price

DESCRIBED = jsonschema.Draft202012Validator(
    {"$ref": "#/components/schemas/KeyUsage", "components": document()["components"]}
)
PRICE = {"input": 1, "output": 10, "cache_read": 0, "cache_write_5m": 1, "cache_write_1h": 1}


@pytest.fixture(autouse=True)
def empty(served):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM usage_rollup")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM usage_rollup")


def get(web, key, prefix="", method="GET", **query):
    return CLIENT.request(method, f"{web.url}{prefix}/v1/usage", headers=credentials(key), params=query)


def usage(web, key, **query):
    answer = get(web, key, **query)
    assert answer.status_code == 200, answer.text
    DESCRIBED.validate(answer.json())
    return answer.json()


def month(web, key):
    return CLIENT.get(f"{web.url}/v1/quota", headers=credentials(key)).json()["this_month"]


def noon(days_ago=0):
    return (timezone.now() - timedelta(days=days_ago)).replace(hour=0, minute=1, second=0, microsecond=0)


@pytest.mark.parametrize("prefix", ["", "/anthropic", "/pydanticai/anthropic", "/pydanticai"])
def test_a_key_without_calls_has_no_lines_in_the_last_thirty_days(web, alice, prefix):
    answer = get(web, alice.key, prefix)
    assert answer.status_code == 200
    assert answer.headers["request-id"] == answer.headers["x-bf-request-id"]
    said = answer.json()
    start, end = (datetime.fromisoformat(said.pop(name)) for name in ("starting_at", "ending_at"))
    assert end - start == timedelta(days=30)
    assert end == noon().replace(minute=0) + timedelta(days=1)
    assert said == {"type": "usage", "virtual_key": "alice", "data": [], "has_more": False}


def test_a_call_is_in_both_answers_at_once_and_counted_once_after_the_roll_up(web, alice, upstream):
    Price.objects.create(model="claude-opus-5-5", **PRICE)
    upstream.answer = whole(200, message(input_tokens=11, output_tokens=7))
    try:
        assert post(web, alice.key).status_code == 200
    finally:
        Price.objects.filter(model="claude-opus-5-5").delete()
    assert row().cost == Decimal("0.000081")
    for _ in range(2):
        (line,) = usage(web, alice.key)["data"]
        assert line == {
            "date": f"{row().admitted_at:%Y-%m-%d}",
            "model": "claude-opus-5-5",
            "calls": 1,
            "estimated_calls": 0,
            "input_tokens": 11,
            "output_tokens": 7,
            "thinking_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation_5m_input_tokens": 0,
            "cache_creation_1h_input_tokens": 0,
            "web_search_requests": 0,
            "cost": "0.000081",
        }
        said = month(web, alice.key)
        assert (said["calls"], said["spent"]) == (1, "0.000081")
        rollups.roll_up()


def test_lines_are_by_day_in_utc_and_by_model_without_regard_to_case(web, alice):
    key = alice.virtual_key
    make_entry(key, noon(1), cost="2", model="claude-small-1")
    make_entry(key, noon(1), cost="3", model="Claude-Big-1")
    make_entry(key, noon(1) - timedelta(minutes=2), cost="5", model="claude-big-1")
    make_entry(key, noon(1), cost="7.5", model="claude-big-1", estimated=True)
    rollups.roll_up()
    make_entry(key, noon(2), cost="11", model="claude-big-1", cache_read_input_tokens=9)
    found = [
        (each["date"], each["model"], each["calls"], each["estimated_calls"], each["cost"])
        for each in usage(web, alice.key)["data"]
    ]
    before, day = (f"{noon(ago):%Y-%m-%d}" for ago in (2, 1))
    assert found == [
        (before, "claude-big-1", 2, 0, "16"),
        (day, "claude-big-1", 2, 1, "10.5"),
        (day, "claude-small-1", 1, 0, "2"),
    ]


def test_an_adjustment_counts_on_the_day_of_its_call(web, alice):
    call = make_entry(alice.virtual_key, noon(3), cost="2")
    rollups.roll_up()
    Adjustment.objects.create(entry_id=call, reason="correction", cost=Decimal("-0.5"), input_tokens=-40)
    for _ in range(2):
        (line,) = usage(web, alice.key)["data"]
        assert (line["date"], line["calls"], line["cost"], line["input_tokens"]) == (
            f"{noon(3):%Y-%m-%d}",
            1,
            "1.5",
            60,
        )
        rollups.roll_up()


def test_a_key_that_moved_to_another_team_keeps_what_it_used_before(web, alice):
    key = alice.virtual_key
    for number in range(3):
        make_entry(key, noon(), cost="1")
        rollups.roll_up()
        key.team = Team.objects.create(customer=key.customer, name=f"Team {number}") if number else None
        key.save()
    assert [line["calls"] for line in usage(web, alice.key)["data"]] == [3]
    assert month(web, alice.key)["calls"] == 3


@pytest.mark.parametrize("rolled_up", [False, True])
def test_another_keys_rows_never_appear(web, alice, rolled_up):
    bob = issue(None, "bob")
    own = issue(None, "own", team=None)
    for caller, cost in ((alice, "1"), (bob, "10"), (own, "100")):
        make_entry(caller.virtual_key, noon(), cost=cost)
    charlie = VirtualKey.objects.create(name="charlie", customer=Customer.objects.create(name="Elsewhere"))
    call = make_entry(charlie, noon(), cost="1000")
    Adjustment.objects.create(entry_id=call, reason="correction", cost=1)
    if rolled_up:
        rollups.roll_up()
    for caller, cost in ((alice, "1"), (bob, "10"), (own, "100")):
        assert [line["cost"] for line in usage(web, caller.key)["data"]] == [cost]
        assert month(web, caller.key)["spent"] == cost


def test_a_gateway_token_gets_the_numbers_of_its_virtual_key(web, alice):
    make_entry(alice.virtual_key, noon(), cost="1")
    token = issuing.issue_gateway_token("laptop", alice.virtual_key)
    assert usage(web, token)["data"] == usage(web, alice.key)["data"] != []


def test_a_range_includes_its_first_day_and_excludes_its_end(web, alice):
    for ago in range(5):
        make_entry(alice.virtual_key, noon(ago), cost="1")
    start, end = (f"{noon(ago):%Y-%m-%d}" for ago in (3, 1))
    said = usage(web, alice.key, starting_at=start, ending_at=f"{end}T00:00:00Z")
    assert [line["date"] for line in said["data"]] == [f"{noon(ago):%Y-%m-%d}" for ago in (3, 2)]
    assert (said["starting_at"], said["ending_at"]) == (f"{start}T00:00:00Z", f"{end}T00:00:00Z")
    assert len(usage(web, alice.key, starting_at=start)["data"]) == 4
    assert len(usage(web, alice.key, ending_at=end)["data"]) == 3


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"since": "2026-11-01"}, "since: unknown parameter"),
        ({"limit": "1", "page": "2"}, "limit, page: unknown parameter"),
        ({"starting_at": "yesterday"}, "starting_at: must be one day"),
        ({"starting_at": ""}, "starting_at: must be one day"),
        ({"ending_at": "2026-02-30"}, "ending_at: must be one day"),
        ({"ending_at": "2026-11-01T12:00:00Z"}, "ending_at: must be one day"),
        ({"ending_at": "2026-11-01T00:00:00+02:00"}, "ending_at: must be one day"),
        ({"ending_at": "9999-12-31"}, "ending_at: must be one day"),
        ({"ending_at": "0001-01-01"}, "ending_at: must be one day"),
        ({"starting_at": ["2026-11-01", "2026-11-02"]}, "starting_at: must be one day"),
        ({"starting_at": "2026-11-02", "ending_at": "2026-11-02"}, "ending_at: must be later"),
        ({"starting_at": "2026-10-01", "ending_at": "2026-11-02"}, "at most 31 days"),
    ],
)
def test_a_wrong_parameter_is_a_400_that_names_it(web, alice, query, said):
    answer = get(web, alice.key, **query)
    refused(answer, 400, "invalid_request_error")
    assert said in answer.json()["error"]["message"]


def test_a_long_name_of_a_parameter_is_cut(web, alice):
    answer = get(web, alice.key, **{"x" * 5000: "1"})
    refused(answer, 400, "invalid_request_error")
    assert len(answer.json()["error"]["message"]) < 200


def test_asking_is_free_and_not_limited(web, alice):
    Budget.objects.create(team=alice.team, amount=0)
    Limit.objects.create(team=alice.team, kind="rpm", rate=1)
    for _ in range(3):
        assert get(web, alice.key).status_code == 200


def test_the_deployment_bounds_how_often_a_key_may_ask(start_web, alice):
    web = start_web(free_rpm=2)
    assert [get(web, alice.key).status_code for _ in range(4)][-1] == 429


def test_a_key_that_may_not_call_may_not_ask(web, alice):
    assert get(web, alice.key).status_code == 200
    refused(get(web, alice.key, method="POST"), 405, "invalid_request_error")
    refused(CLIENT.get(f"{web.url}/v1/usage"), 401, "authentication_error")
    issuing.revoke(alice.virtual_key)
    refused(get(web, alice.key), 401, "authentication_error")
    refused(get(web, alice.key, unknown="1"), 401, "authentication_error")


def test_a_caller_with_a_providers_own_key_learns_nothing(start_web, alice):
    web = start_web(PASSTHROUGH_CUSTOMER="Acme")
    issuing.ensure_passthrough_key("Acme")
    refused(get(web, "sk-ant-somebodys-own-key"), 403, "permission_error")


def test_its_example_is_right():
    DESCRIBED.validate(EXAMPLE)
