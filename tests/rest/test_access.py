"""What each method of the REST API answers to each role: access.txt is the table. Its head explains the answers.

A method without a line in it fails, and so does a line without one. Every token has all scopes, so that only roles
decide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from administration.rest import tokens, urls
from tests.support.ledger_rows import empty_ledger
from tests.support.role_cast import VISITORS, Cast, make_role_cast

TABLE = Path(__file__).with_name("access.txt")
# The rows of the resources whose model has another name.
ROWS = {
    "virtual-keys": "keys.virtualkey",
    "aliases": "keys.modelalias",
    "calls": "usage.ledgerentry",
    "reconciliation": "reconciliation.comparison",
    "adjusted-estimates": "reconciliation.adjustmentrun",
    "admin-keys": "reconciliation.adminkey",
    "reported-keys": "reconciliation.reportedkey",
    "bill-formats": "reconciliation.billformat",
    "bills": "reconciliation.bill",
    "audit": "keys.auditevent",
    "statements": "billing.statement",
}
COLUMNS = {"start": "day", "meter": "meter", "cost": "usd"}
PRICES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")

pytestmark = pytest.mark.django_db


def methods() -> Iterator[tuple[str, str]]:
    """Every method that is documented, and its route: `GET` and `virtual-keys/<int:pk>/why`."""
    for pattern in urls.documented:
        actions = getattr(pattern.callback, "actions", None) or {}
        for method in tuple(actions):  # the first HEAD adds to them
            if method != "head":
                yield method.upper(), str(pattern.pattern)


def lines() -> dict[str, list[str]]:
    """The table: the answers in the order of the columns, by method and route."""
    found: dict[str, list[str]] = {}
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            name, answers = re.split(r"\s{2,}", line, maxsplit=1)
            assert name not in found, f"a second line: {name}"
            found[name] = answers.split()
    return found


def label(resource: str) -> str:
    """The label of a resource's model."""
    if resource in ROWS:
        return ROWS[resource]
    name = resource.replace("-", "").removesuffix("s")
    app = "keys" if name in ("customer", "team", "providerkey") else "usage"
    return f"{app}.{name}"


def body(route: str, cast: Cast) -> dict[str, Any]:
    """What a request that creates something sends, for Alice's team; nothing for all others."""
    customer, team, key, budget = (
        cast.row(name).pk for name in ("keys.customer", "keys.team", "keys.virtualkey", "usage.budget")
    )
    terms = {"name": "new", "customer_id": customer, "team_id": team}
    until = (timezone.now() + timedelta(days=1)).isoformat()
    range_ = {"since": "2026-11-01T00:00:00Z", "until": "2026-11-02T00:00:00Z"}
    of_key = {"provider_key_id": cast.row("keys.providerkey").pk, **range_}
    bodies: dict[str, dict[str, Any]] = {
        "customers": {"name": "New"},
        "teams": {"customer_id": customer, "name": "New"},
        "virtual-keys": terms,
        "virtual-keys/<int:pk>/revoke": {"reason": "test"},
        "virtual-keys/bulk": {"keys": [terms]},
        "budgets": {"virtual_key_id": key, "amount": "5"},
        "limits": {"virtual_key_id": key, "kind": "input_tpm", "rate": 5},
        "top-ups": {"budget_id": budget, "amount": "1", "reason": "test"},
        "overrides": {"budget_id": budget, "amount": "1", "until": until, "reason": "test"},
        "provider-keys": {"name": "new", "provider": "echo"},
        "aliases": {"name": "slow", "target": "claude-opus-4-8"},
        "prices": {"model": "house-*", **dict.fromkeys(PRICES, "1")},
        "prices/<int:pk>/end": {"valid_to": (timezone.now() + timedelta(days=3)).isoformat()},
        "adjusted-estimates": {**of_key, "reason": "test"},
        "adjusted-estimates/preview": of_key,
        "adjusted-estimates/<int:pk>/take_back": {"reason": "test"},
        "admin-keys": {"name": "new", "provider": "anthropic", "secret": "sk-ant-admin01-new"},
        "admin-keys/<int:pk>": {"secret": "sk-ant-admin01-new"},
        "bill-formats": {"name": "new", "provider_key_id": of_key["provider_key_id"], "columns": COLUMNS},
        "bills": {"format_id": cast.row("reconciliation.billformat").pk, "filename": "bill.csv", "content": "Cg=="},
        "exchange-rates": {"currency": "EUR", "rate": "0.92", "source": "ECB"},
        "statements/close": {"customer_id": customer, "month": "2026-08"},
        "saved-reports": {"name": "Monthly", "query": "range=last_month&by=team"},
        "alert-targets": {"channel": "email", "address": "ops@example.com"},
    }
    return bodies.get(route, {})


class Caller:
    """A person of a column, with a token that has all scopes; `None`: without one."""

    def __init__(self, person: Any) -> None:
        self.client = Client(raise_request_exception=False)
        self.headers: dict[str, str] = {}
        if person is not None:
            ends = timezone.now() + timedelta(days=1)
            self.headers = {"authorization": f"Bearer {tokens.issue(person, 'table', ['all:write'], ends)[1]}"}

    def ask(self, method: str, path: str, body: dict[str, Any], **headers: str) -> Any:
        """The answer, undone afterwards."""
        with transaction.atomic():
            sent = b"" if method in ("GET", "DELETE") else json.dumps(body).encode()
            answer = self.client.generic(
                method, f"/api/v1/{path}", sent, content_type="application/json", headers=self.headers | headers
            )
            transaction.set_rollback(True)
        return answer


def answers(cast: Cast, who: str) -> dict[str, str]:
    """What the product really answers to this visitor, by the table's lines."""
    owner = Caller(cast.people["owner"])
    caller = owner if who == "owner" else Caller(cast.people[who])
    found = {}
    for method, route in methods():
        resource = route.partition("/")[0]
        path = re.sub(r"<\w+:pk>", "{pk}", route).replace("<str:name>", "csv")
        if "{pk}" in path:
            path = path.format(pk=key_of(cast, resource, owner))
        path += "?model=claude-opus-4-8" if route.endswith("/why") else ""
        path += "?since=2026-11-01T00:00:00Z&until=2026-12-01T00:00:00Z" if route.endswith("/sums") else ""
        headers = {}
        if method == "PATCH":
            etag = owner.ask("GET", path, {}).headers.get("etag", "")
            headers = {"if-match": caller.ask("GET", path, {}).headers.get("etag", etag)}
        found[f"{method} {route}"] = str(caller.ask(method, path, body(route, cast), **headers).status_code)
    return found


def key_of(cast: Cast, resource: str, owner: Caller) -> str:
    """What the URL of the row of Alice's team has as its id: as lists show it."""
    listed = owner.ask("GET", resource, {}).json()["data"]
    row = str(cast.row(label(resource)).pk)
    return next((str(each["id"]) for each in listed if str(each["id"]) == row), str(listed[0]["id"]))


@pytest.fixture
def cast() -> Cast:
    empty_ledger()
    return make_role_cast()


def test_each_method_has_a_line() -> None:
    expected, found = lines().keys(), {f"{method} {route}" for method, route in methods()}
    missing, gone = sorted(found - expected), sorted(expected - found)
    assert not missing, "add a line to access.txt for each:\n" + "\n".join(missing)
    assert not gone, "these lines of access.txt have no method:\n" + "\n".join(gone)


@pytest.mark.parametrize("who", VISITORS)
def test_each_method_answers_each_role_as_the_table_says(cast: Cast, who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keys.provider_checks.check", lambda *rows: [None for _ in rows])
    column, found = VISITORS.index(who), answers(cast, who)
    faults = [
        f"{name}: {found[name]}, and not {row[column]}"
        for name, row in lines().items()
        if found.get(name, row[column]) != row[column]
    ]
    assert not faults, "\n".join(faults)
