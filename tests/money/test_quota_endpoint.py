"""GET /v1/quota, over the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import jsonschema
import pytest
from django.db import connection
from django.utils import timezone

from keys import issuing
from keys.models import Customer, Team
from messages_api.reference.document import document
from messages_api.reference.quota import EXAMPLE
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, credentials, message, post, refused, row
from usage.models import Budget, LedgerEntry, Limit, Price
from usage.standing import STANDING

PREFIXES = ["", "/anthropic", "/pydanticai/anthropic", "/pydanticai"]
DESCRIBED = jsonschema.Draft202012Validator(
    {"$ref": "#/components/schemas/Quota", "components": document()["components"]}
)


def get(web, key, prefix="", method="GET"):
    return CLIENT.request(method, f"{web.url}{prefix}/v1/quota", headers=credentials(key))


def quota(web, key):
    answer = get(web, key)
    assert answer.status_code == 200, answer.text
    DESCRIBED.validate(answer.json())
    return answer.json()


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_key_without_any_has_empty_lists(web, alice, prefix):
    answer = get(web, alice.key, prefix)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["request-id"] == answer.headers["x-bf-request-id"]
    said = answer.json()
    assert said.pop("as_of").endswith("Z")
    month = said.pop("this_month")
    assert (month["calls"], month["spent"]) == (0, "0")
    assert month["starts_at"] <= timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ") < month["ends_at"]
    assert said == {
        "type": "quota",
        "virtual_key": alice.virtual_key.name,
        "team": "Research",
        "customer": "Acme",
        "time_zone": "UTC",
        "max_tokens": {"ceiling": None, "default": None},
        "budgets": [],
        "limits": [],
    }


def test_it_says_what_was_spent_and_is_left_and_when_it_resets(web, alice, upstream):
    Customer.objects.update(time_zone="Europe/Berlin")
    Price.objects.create(model="claude-opus-5-5", input=1, output=10, cache_read=0, cache_write_5m=1, cache_write_1h=1)
    Budget.objects.create(team=alice.team, amount=1)
    upstream.answer = whole(200, message(input_tokens=11, output_tokens=7))
    try:
        assert post(web, alice.key).status_code == 200
    finally:
        Price.objects.filter(model="claude-opus-5-5").delete()
    assert row().cost == Decimal("0.000081")
    (budget,) = quota(web, alice.key)["budgets"]
    starts, resets = datetime.fromisoformat(budget.pop("starts_at")), datetime.fromisoformat(budget.pop("resets_at"))
    local = budget.pop("resets_at_local")
    assert starts < timezone.now() < resets
    assert datetime.fromisoformat(local) == resets
    assert "-01T00:00:00+0" in local
    assert budget == {
        "owner": {"type": "team", "name": "Research"},
        "provider_key": None,
        "models": [],
        "unit": "usd",
        "period": "month",
        "rolling": False,
        "enforcement": "hard",
        "amount": "1",
        "spent": "0.000081",
        "held": "0",
        "left": "0.999919",
        "exhausted_since": None,
    }


def test_it_shows_what_applies_from_every_owner_and_nothing_else(web, alice):
    key, team = alice.virtual_key, alice.team
    others = Team.objects.create(customer=key.customer, name="Others")
    for amount, owner in enumerate(
        (
            {"customer": key.customer},
            {"team": team},
            {"virtual_key": key},
            {"virtual_key": key, "provider_key": alice.provider_key, "model_patterns": ["claude-*"]},
        )
    ):
        Budget.objects.create(amount=amount, **owner)
        Limit.objects.create(kind="rpm", rate=amount + 1, **owner)
    bob, _ = issuing.issue_virtual_key(
        name="bob", customer=key.customer, team=others, provider_keys=[(alice.provider_key, 1)]
    )
    elsewhere = Customer.objects.create(name="Elsewhere")
    for owner in ({"team": others}, {"virtual_key": bob}, {"customer": elsewhere}):
        Budget.objects.create(amount=99, **owner)
        Limit.objects.create(kind="rpm", rate=99, **owner)
    Budget.objects.create(amount=98, team=team).delete_softly()
    Budget.objects.create(amount=97, team=team, active=False)
    said = quota(web, alice.key)
    found = [(each["owner"]["type"], each["provider_key"], each["models"]) for each in said["budgets"]]
    assert found == [
        ("customer", None, []),
        ("team", None, []),
        ("virtual_key", None, []),
        ("virtual_key", alice.provider_key.name, ["claude-*"]),
    ]
    assert [each["amount"] for each in said["budgets"]] == ["0", "1", "2", "3"]
    assert [each["limit"] for each in said["limits"]] == [1, 2, 3, 4]
    assert "Others" not in str(said)
    assert "Elsewhere" not in str(said)


def test_windows_that_have_not_begun_are_shown_with_their_known_values(web, alice):
    Budget.objects.create(team=alice.team, amount=1, period="day")
    Budget.objects.create(team=alice.team, amount=1, period="hour", rolling=True)
    Budget.objects.create(team=alice.team, period="none").top_up(Decimal(5), reason="x", author="y")
    day, rolling, prepaid = quota(web, alice.key)["budgets"]
    assert datetime.fromisoformat(day["resets_at"]) - datetime.fromisoformat(day["starts_at"]) == timedelta(days=1)
    assert (rolling["starts_at"], rolling["resets_at"], rolling["resets_at_local"]) == (None, None, None)
    assert (prepaid["amount"], prepaid["left"]) == ("5", "5")
    assert (prepaid["starts_at"], prepaid["resets_at"]) == (None, None)


def test_an_override_is_what_it_shows(web, alice):
    Budget.objects.create(team=alice.team, amount=1).override(Decimal(7), windows=1, reason="launch", author="ops")
    (budget,) = quota(web, alice.key)["budgets"]
    assert (budget["amount"], budget["left"]) == ("7", "7")


def test_limits_have_what_remains_and_when_they_are_full_again(web, alice, upstream):
    Limit.objects.create(team=alice.team, kind="rpm", rate=60)
    Limit.objects.create(virtual_key=alice.virtual_key, kind="parallel", rate=3)
    upstream.answer = whole(200, message())
    assert post(web, alice.key).status_code == 200
    row()
    requests, parallel = quota(web, alice.key)["limits"]
    assert (requests["kind"], requests["limit"], requests["burst"]) == ("rpm", 60, 10)
    assert requests["remaining"] in (9, 10)
    assert datetime.fromisoformat(requests["resets_at"]).tzinfo == UTC
    assert (parallel["limit"], parallel["remaining"], parallel["resets_at"]) == (3, 3, None)


def test_asking_is_free_and_not_limited(web, alice):
    Budget.objects.create(team=alice.team, amount=0)
    Limit.objects.create(team=alice.team, kind="rpm", rate=1)
    for _ in range(3):
        assert get(web, alice.key).status_code == 200
    assert not LedgerEntry.objects.exists()


def test_a_key_that_may_not_call_may_not_ask(web, alice):
    assert get(web, alice.key).status_code == 200
    issuing.revoke(alice.virtual_key)
    refused(get(web, alice.key), 401, "authentication_error")
    refused(CLIENT.get(f"{web.url}/v1/quota"), 401, "authentication_error")
    refused(get(web, alice.key, method="POST"), 405, "invalid_request_error")


def test_a_caller_with_a_providers_own_key_learns_nothing(start_web, alice):
    web = start_web(PASSTHROUGH_CUSTOMER="Acme")
    issuing.ensure_passthrough_key("Acme")
    Budget.objects.create(customer=Customer.objects.get(name="Acme"), amount=1)
    refused(get(web, "sk-ant-somebodys-own-key"), 403, "permission_error")


def test_its_example_is_right():
    DESCRIBED.validate(EXAMPLE)


@pytest.mark.django_db
def test_it_asks_once_and_by_index():
    # Of a table with few rows, any index is as good.
    customers = Customer.objects.bulk_create(Customer(name=f"Customer {number}") for number in range(500))
    Budget.objects.bulk_create(Budget(customer=customer, amount=1) for customer in customers)
    Limit.objects.bulk_create(Limit(customer=customer, kind="rpm", rate=60) for customer in customers)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE usage_budget, usage_limit")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + STANDING, {"virtual_key": 1})
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "usage_budget_owner" in plan
    assert "usage_limit_owner" in plan
    assert "Lock" not in plan
