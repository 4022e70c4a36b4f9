"""A program of finance, which reads reports in Anthropic's shape."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from administration.rest import tokens
from tests.support.ledger_rows import Cast, make_entry

BETA = "analytics-usage-cost-2026-08-24"
SINCE, UNTIL = "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"
MONTH = [("starting_at", SINCE), ("ending_at", UNTIL)]
Query = list[tuple[str, str]]


def token_of(user: User, *scopes: str) -> str:
    """A token's plain text."""
    name = f"finance {user.api_tokens.count()}"
    return tokens.issue(user, name, scopes or ["usage:read"], timezone.now() + timedelta(days=7))[1]


class Finance:
    """A program with a token."""

    def __init__(self, token: str, address: str = "127.0.0.1") -> None:
        self.client = Client(raise_request_exception=False, REMOTE_ADDR=address)
        self.headers = {"x-api-key": token, "anthropic-beta": BETA, "anthropic-version": "2023-06-01"}

    def ask(self, report: str, query: Query, method: str = "GET", headers: dict[str, str] | None = None) -> Any:
        """The answer."""
        path = f"/v1/organizations/analytics/{report}"
        return self.client.generic(
            method, path, QUERY_STRING=urlencode(query), headers=self.headers if headers is None else headers
        )

    def page(self, report: str, query: Query) -> Any:
        """The JSON of an answer that must be a 200."""
        answer = self.ask(report, query)
        assert answer.status_code == 200, answer.content
        return answer.json()

    def rows(self, report: str, query: Query) -> list[dict[str, Any]]:
        """The rows of all pages."""
        found, cursor = list[dict[str, Any]](), None
        while True:
            page = self.page(report, [*query, *([("page", cursor)] if cursor else [])])
            found += page["data"]
            cursor = page["next_page"]
            assert page["has_more"] is (cursor is not None)
            if cursor is None:
                return found


def usd(row: dict[str, Any]) -> Decimal:
    """The amount of a row."""
    return Decimal(row["cost"]["amount"]) / 100


def at(day: int, hour: int = 10, minute: int = 0) -> datetime:
    """A moment of November."""
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def made_calls(cast: Cast) -> None:
    """Calls of all kinds: several keys, models, tiers and speeds, a charge that isn't the cost, parts, and money that
    belongs to no category."""
    parts = [Decimal("0.25"), Decimal("0.5"), Decimal("0.01"), Decimal("0.02"), Decimal("0.03"), Decimal("0.04")]
    tokens_ = {
        "cache_read_input_tokens": 7,
        "cache_creation_5m_input_tokens": 5,
        "cache_creation_1h_input_tokens": 3,
        "web_search_requests": 2,
    }
    make_entry(cast.alice, at(2, 9, 10), cost=Decimal("0.85"), cost_split=parts, **tokens_)
    make_entry(cast.alice, at(2, 9, 50), cost=Decimal(1), charge=Decimal("1.234567890123"), service_tier="")
    make_entry(cast.alice, at(2, 10), cost=Decimal("0.5"), speed="fast", service_tier="priority", output_tokens=900)
    make_entry(cast.bob, at(3), model="claude-haiku-5-5", cost=Decimal(2), service_tier="batch")
    make_entry(cast.charlie, at(3, 23, 59), cost=Decimal(4))
    make_entry(cast.charlie, at(30, 23, 59), model="claude-haiku-5-5", cost=Decimal(8))
