"""With many keys and calls, no page scans a large table, and each makes as many queries as with few. `make bench-pages`
measures the times at full size."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from administration import overview
from administration.calls import filters
from administration.models import Grant
from administration.owners import standing
from administration.providers import standing as provider_standing
from administration.role_names import Role
from keys import key_search
from keys.connection import parameters
from tests.support import scaled_pages
from tests.support.gateway import new_database, using
from tests.support.scale import SMALL, fill

pytestmark = [pytest.mark.either_server, pytest.mark.long]
# Tables of which a page may read a part only.
LARGE = re.compile(
    "usage_ledgerentry_.*|usage_(refusal|rollup|ownerday|budget|window|limit|alert|override|credentialuse)"
    "|keys_(auditevent|credential|virtualkey|virtualkeyroute)"
)
# A search for a text inside of names has to read these: there are far fewer of them than of keys.
SEARCHED = {"keys_customer", "keys_team"}
# Lists of these count up to a bound, which is more than there are here, and nearly every row counts.
COUNTED = {"usage_budget", "usage_limit", "usage_alert", "usage_override"}
# A list by state reads these in the order of names until a page is full.
LISTED = {"keys_virtualkey"}
SEARCHES = re.compile("~~|@@|LIKE")
ROWS = "SELECT relname FROM pg_class WHERE reltuples > 1000"
MOST_QUERIES = 40


@pytest.fixture(scope="module")
def scaled(django_db_blocker) -> Iterator[Client]:
    """Someone who may see all pages of a large deployment."""
    with django_db_blocker.unblock(), new_database("scale") as name, using(name):
        with psycopg.connect(**parameters(), autocommit=True, cursor_factory=psycopg.ClientCursor) as link:
            fill(link, SMALL)
        client = Client()
        client.force_login(User.objects.create_superuser("admin"))
        yield client


def scans(plan: dict[str, Any], limited: bool = False) -> Iterator[str]:
    """The tables that a plan reads from end to end. The first rows in any order are found at once."""
    table, condition = plan.get("Relation Name"), plan.get("Filter", "")
    searches = SEARCHES.search(condition) is not None
    in_part = limited and (not condition or table in COUNTED)
    read = table in SEARCHED if searches else in_part or table in LISTED
    if plan["Node Type"] == "Seq Scan" and not read:
        yield plan["Relation Name"]
    for each in plan.get("Plans", ()):
        yield from scans(each, limited or plan["Node Type"] == "Limit")


def scanned(sql: str, filled: set[str]) -> set[str]:
    """The large tables that a query scans."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
        (plan,) = cursor.fetchone()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    return {table for table in scans(plan[0]["Plan"]) if LARGE.fullmatch(table)} & filled


@pytest.fixture(autouse=True)
def bounds_in_proportion(monkeypatch):
    """Bounds that pages keep, in proportion to the number of rows."""
    monkeypatch.setattr(filters, "LOOKED_AT", 300)
    monkeypatch.setattr(standing, "REFUSALS_LOOKED_AT", 300)
    monkeypatch.setattr(key_search, "NEWEST", 300)
    monkeypatch.setattr(overview, "BUDGETS", 100)
    monkeypatch.setattr(overview, "ALERTS", 100)
    monkeypatch.setattr(overview, "REFUSALS", 300)
    monkeypatch.setattr(provider_standing, "LOOKED_AT", 300)


def faults(client: Client, urls: list[str]) -> list[str]:
    """Pages that scan a large table, or need many queries."""
    found = []
    with connection.cursor() as cursor:
        cursor.execute(ROWS)
        filled = {table for (table,) in cursor.fetchall()}
    for url in urls:
        client.get(url)
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(url)
        assert answer.status_code == 200, url
        if len(queries) > MOST_QUERIES:
            found.append(f"{url}: {len(queries)} queries")
        for query in queries:
            if query["sql"].lstrip().startswith(("SELECT", "WITH")) and (tables := scanned(query["sql"], filled)):
                found.append(f"{url}: {', '.join(sorted(tables))}: {query['sql'][-700:]}")
    return found


def test_no_page_scans_a_large_table_and_all_have_few_queries(scaled, django_db_blocker):
    with django_db_blocker.unblock():
        found = faults(scaled, scaled_pages.pages())
    assert not found, "\n".join(found)


# Among as few rows as there are here, a scan is the better plan for the part of a whole customer.
SCOPES: dict[str, tuple[Role, dict[str, int]]] = {
    "team": (Role.TEAM_ADMIN, {"team_id": scaled_pages.TEAM}),
    "keys": (Role.MEMBER, {}),
}


@pytest.mark.parametrize("scope", SCOPES)
def test_no_page_of_a_person_who_sees_a_part_scans_a_large_table(scaled, django_db_blocker, scope):
    role, rows = SCOPES[scope]
    with django_db_blocker.unblock():
        person = User.objects.create_user(f"person{[*SCOPES].index(scope) + 1}@example.com", is_staff=True)
        Grant.objects.create(user=person, role=role, **rows)
        client = Client()
        client.force_login(person)
        shown = [url for url in scaled_pages.scoped_pages() if client.get(url).status_code != 403]
        found = faults(client, shown)
    assert len(shown) > 10
    assert not found, "\n".join(found)
