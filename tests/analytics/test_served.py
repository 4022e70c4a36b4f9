"""A running gateway's reports: read to the end by Anthropic's own client, and by a second gateway that compares them
with its ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anthropic
import pytest
from django.contrib.auth.models import User

from keys import provider_keys
from reconciliation import admin_keys, comparing, key_hints, running
from reconciliation.models import AdminKey, Comparison, ReportedKey
from reconciliation.reading import Run
from tests.support.finance import SINCE, UNTIL, made_calls, token_of
from tests.support.gateway import CLIENT, Web, refused, talk
from tests.support.ledger_rows import Cast, empty_ledger, make_cast, make_entry
from usage import rollups
from usage.models import LedgerEntry

PATH = "/v1/organizations/analytics/usage"


@pytest.fixture
def cast(served: None) -> Cast:
    empty_ledger()
    return make_cast()


@pytest.fixture
def token(cast: Cast) -> str:
    return token_of(User.objects.create_superuser("boss"))


@pytest.fixture
def client(web: Web) -> Iterator[Callable[..., Any]]:
    """Makes Anthropic's client, with the gateway's address."""
    with ExitStack() as made:

        def make(**given: Any) -> Any:
            opened = made.enter_context(anthropic.Anthropic(base_url=web.url, max_retries=0, **given))
            return opened.beta.organization.analytics

        yield make


def test_anthropics_client_reads_all_pages_and_their_sums_are_the_ledgers(
    client: Callable[..., Any], cast: Cast, token: str
) -> None:
    made_calls(cast)
    rollups.roll_up()
    rows = list(LedgerEntry.objects.all())
    asked = {"starting_at": SINCE, "ending_at": datetime(2026, 12, 1, tzinfo=UTC), "time_bucket_width": "1h"}
    asked |= {"group_by": ["api_key_id", "workspace_id", "model", "service_tier", "speed"], "limit": 2}
    used = list(client(api_key=token).usage.list(**asked))
    assert len(used) == 5
    assert sum(each.usage.requests for each in used) == len(rows)
    assert sum(each.usage.output_tokens for each in used) == sum(row.output_tokens for row in rows)
    assert {each.group.api_key_id for each in used} == {f"apikey_{row.virtual_key_id}" for row in rows}
    asked["group_by"] = ["model", "cost_type", "token_type"]
    paid = list(client(auth_token=token, api_key=None).cost.list(**asked, order_by="time", order="asc"))
    assert sum(Decimal(each.cost.amount) for each in paid) == 100 * sum(row.owed for row in rows)
    page = client(api_key=token).cost.list(starting_at=SINCE, ending_at=UNTIL, models=["claude-haiku-5-5"])
    assert [(each.cost.amount, each.cost.requests) for each in page.data] == [("1000", 2)]
    assert page.data_refreshed_at.tzinfo is not None


def test_anthropics_client_raises_its_own_errors(web: Web, client: Callable[..., Any], cast: Cast, token: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match="starting_at: is no time"):
        client(api_key=token).usage.list(starting_at="yesterday")
    with pytest.raises(anthropic.AuthenticationError):
        client(api_key=token[:-1] + "!").usage.list(starting_at=SINCE)
    little = token_of(User.objects.get(username="boss"), "calls:read")
    with pytest.raises(anthropic.PermissionDeniedError, match="usage:read"):
        client(api_key=little).cost.list(starting_at=SINCE)
    headers = {"x-api-key": token}
    other = CLIENT.get(f"{web.url}/v1/organizations/analytics/summaries", headers=headers)
    refused(other, 404, "not_found_error")
    below = CLIENT.get(f"{web.url}/anthropic{PATH}?starting_at={SINCE}", headers=headers)
    assert below.status_code == 200, below.text


def test_what_is_refused_before_django_has_the_shape_too(web: Web, cast: Cast) -> None:
    head = f"PUT {PATH} HTTP/1.1\r\nHost: gateway\r\nContent-Length: 9\r\n\r\n"
    status, headers, body = talk(web, head.encode())
    assert (status, headers["content-type"]) == (413, "application/json")
    assert headers["request-id"].encode() in body
    assert b'"request_too_large"' in body


def test_a_process_without_pages_has_no_reports(cast: Cast, token: str, start_web: Callable[..., Web]) -> None:
    answer = CLIENT.get(f"{start_web(roles='api').url}{PATH}?starting_at={SINCE}", headers={"x-api-key": token})
    refused(answer, 404, "not_found_error")


def test_a_second_gateway_compares_the_reports_of_a_first_with_its_ledger(web: Web, cast: Cast, token: str) -> None:
    key = provider_keys.add_provider_key(name="first gateway", provider="anthropic", secret="sk-bf-" + "x" * 49)
    then = datetime.now(UTC).replace(minute=5, second=0, microsecond=0) - timedelta(days=1)
    for number in range(3):
        cost = Decimal("0.0006") + number
        make_entry(cast.alice, then + timedelta(hours=number), key, cost=cost, cost_split=[cost])
    rollups.roll_up()
    admin_key = AdminKey(name="first gateway", provider="anthropic", base_url=web.url, requests_a_minute=60)
    admin_keys.save(admin_key, token)
    AdminKey.objects.update(requests_a_minute=30_000)
    work = Run(since=then.date())
    assert running.run(admin_key, work) == ""
    # Another gateway lists no keys, so the one that its report names is chosen by hand.
    admin_key.refresh_from_db()
    assert (admin_key.kind, admin_key.problem) == (
        "analytics",
        "the keys can't be listed: choose reported keys by hand",
    )
    reported = ReportedKey.objects.get(api_key_id=f"apikey_{cast.alice.pk}")
    key_hints.choose(reported, key)
    comparing.compare_days(admin_key, work.days)
    rows = Comparison.objects.filter(provider_key=key).order_by("start")
    assert [(row.their_requests, row.theirs, row.ours, row.difference) for row in rows] == [
        (1, Decimal("0.0006") + number, Decimal("0.0006") + number, Decimal(0)) for number in range(3)
    ]
