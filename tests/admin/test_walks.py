"""What people do with the pages, step by step in a real browser: a newcomer, finance, a team's admin and a member.

`make pictures` keeps how each step looks, for docs/tour.md.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from administration.role_names import Role
from messages_api.stored import model_refresh
from tests.admin.test_page_widths import styled
from tests.support.browser import Window
from tests.support.company import HAIKU, OPUS, SONNET, Company, make_company, make_person
from tests.support.fake_provider import Answer, Seen, Upstream, whole
from tests.support.gateway import Web, message, post, rows
from tests.support.ledger_rows import empty_ledger
from tests.support.signing_in import PASSWORD
from tests.support.walk import Walk
from usage import rollups
from usage.workers import Worker, WorkerKind

__all__ = ["styled"]
# The most that a newcomer presses or sends, from the sign-in to a key with a budget and limits.
MOST_PRESSES = 12


def provider(seen: Seen) -> Answer:
    """What these walks need of Anthropic."""
    if seen.method == "GET":
        models = [{"type": "model", "id": name, "display_name": name} for name in (OPUS, SONNET, HAIKU)]
        return whole(200, json.dumps({"data": models, "has_more": False}).encode())
    asked = json.loads(seen.body)["model"]
    return whole(200, message("Hello! How can I help you today?", 9, 12, model=asked), ("request-id", "req_011CW"))


@pytest.fixture
def site(styled: Web, collected, settings, upstream: Upstream) -> Iterator[Web]:
    """A gateway with an empty ledger, whose secrets are the test's, too, and whose provider answers."""
    settings.VAR_DIR = collected
    upstream.answer = provider
    empty_ledger()
    for kind in WorkerKind:
        Worker.objects.create(id=uuid.uuid4(), kind=kind, host="gateway", pid=1, task_at=timezone.now(), waited_ms=2)
    yield styled
    Worker.objects.all().delete()
    empty_ledger()


@pytest.fixture
def company(site: Web, upstream: Upstream) -> Company:
    return make_company(upstream.url)


def paste(command: str) -> dict[str, Any]:
    """What a shell answers to a command that is pasted into it."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_newcomer_gets_from_an_empty_database_to_a_revoked_key(chromium: Window, site: Web, upstream: Upstream):
    User.objects.create_superuser("admin", password=PASSWORD)
    walk = Walk(chromium, site, "newcomer")
    walk.sign_in("admin")
    walk.step("start")

    walk.press("Add a provider key")
    walk.fill("Name:", "anthropic")
    walk.choose("Provider:", "Anthropic")
    walk.fill("Base URL:", upstream.url)
    walk.fill("Secret:", "sk-ant-the-newcomers-own-0815")
    walk.step("provider-key")
    walk.press("Save", "button")
    assert "was tested: works" in walk.text("body")
    # As the worker does soon after.
    model_refresh.refresh_due()

    walk.press("Add a customer")
    walk.fill("Name:", "Northwind")
    walk.step("customer")
    walk.press("Save", "button")

    walk.press("Add a team")
    walk.fill("Name:", "Research")
    walk.step("team")
    walk.press("Save", "button")
    walk.step("three-steps-done")

    walk.press("Issue a virtual key")
    walk.fill("Name", "notebooks")
    walk.fill("Owner", "dora@example.com")
    walk.fill("Budget, USD", "1")
    walk.fill("Requests a minute", "60")
    walk.fill("Calls at once", "4")
    walk.step("terms")
    walk.press("Issue the key", "button")
    assert walk.presses <= MOST_PRESSES
    shown = walk.text()
    for term in ("Northwind / Research", "$1 a month", "60 requests a minute", "4 calls at once"):
        assert term in shown
    walk.step("key")

    call = walk.text("#curl")
    assert paste(call)["content"][0]["text"] == "Hello! How can I help you today?"
    rows(1)
    walk.go("Overview")
    spent = walk.text(".figure:first-child .big")
    assert Decimal(spent.removeprefix("$")) > 0
    walk.step("spend")

    # An answer of this length may cost more than the budget has.
    refusal = paste(call.replace('"max_tokens": 100', '"max_tokens": 64000').replace(HAIKU, OPUS))
    walk.go("Keys")
    walk.press("notebooks")
    walk.see(refusal["error"]["message"])
    walk.step("refusal", "[aria-labelledby=refusals]")
    walk.fill("Model", OPUS)
    walk.fill("max_tokens", "64000")
    walk.press("Ask", "button")
    walk.step("why", "[aria-labelledby=why]")

    walk.press("Rotate")
    walk.step("rotate")
    walk.press("Rotate", "button")
    newer = walk.text("#curl")
    assert newer != call
    walk.step("rotated")
    for each in (newer, call):
        assert paste(each)["type"] == "message"

    rows(3)
    rollups.roll_up()
    walk.press("The virtual key “notebooks”")
    walk.press("Revoke")
    walk.fill("Reason:", "No longer used")
    walk.step("revoke")
    walk.press("Revoke", "button")
    assert "No longer used" in walk.text()
    walk.step("revoked")
    assert paste(newer)["error"]["type"] == "authentication_error"


def test_finance_reads_the_month_exports_it_and_looks_at_a_call(chromium: Window, site: Web, company: Company):
    make_person("fiona", Role.FINANCE)
    assert post(site, company.secrets["assistant"]).status_code == 200
    rows(len(company.keys) * 30 + 1)
    rollups.roll_up()
    walk = Walk(chromium, site, "finance")
    walk.sign_in("fiona")
    walk.step("overview")

    walk.go("Usage")
    # On the first of a month, this one may have no call of a customer.
    walk.choose("Range", "last 30 days")
    walk.tick("Customer")
    walk.press("Show", "button")
    walk.step("report")
    lines = list(csv.DictReader(io.StringIO(walk.download("Export as CSV"))))
    assert {line["Customer"] for line in lines} == {"Northwind", "Contoso"}

    walk.go("Calls")
    walk.step("calls")
    walk.press(walk.text("table.calls tbody tr:first-child a"))
    assert "assistant" in walk.text()
    walk.step("call")


def test_an_admin_of_a_team_issues_a_key_within_the_rules_and_pauses_it(chromium: Window, site: Web, company: Company):
    make_person("tariq", Role.TEAM_ADMIN, company.team_of("notebooks"))
    walk = Walk(chromium, site, "team-admin")
    walk.sign_in("tariq")
    walk.go("Keys")
    walk.press("Teams")
    walk.press("Research")
    walk.step("team")

    walk.press("Issue a virtual key")
    walk.fill("Name", "benchmarks")
    walk.fill("Budget, USD", "900")
    walk.press("Issue the key", "button")
    assert "at most" in walk.text(".errorlist")
    walk.step("rules")
    walk.fill("Budget, USD", "150")
    walk.press("Issue the key", "button")
    walk.step("key")
    call = walk.text("#curl")
    assert paste(call)["type"] == "message"
    rows(len(company.keys) * 30 + 1)
    rollups.roll_up()

    walk.press("The virtual key “benchmarks”")
    walk.press("Pause", "button")
    assert "paused" in walk.text(".facts")
    walk.step("paused")
    assert paste(call)["error"]["type"] == "permission_error"


def test_a_member_sees_what_is_left_by_key_and_as_its_owner(chromium: Window, site: Web, company: Company):
    make_person("dora", Role.MEMBER)
    walk = Walk(chromium, site, "member")
    walk.open("/my/")
    walk.step("paste-the-key")
    walk.fill("Virtual key", company.secrets["notebooks"])
    walk.press("Sign in", "button")
    assert "Spent this month" in walk.text()
    walk.step("what-is-left")
    walk.press("Sign out", "button")

    walk.press("Sign in with it")
    walk.fill("Username:", "dora")
    walk.fill("Password:", PASSWORD)
    walk.press("Sign in", "button")
    walk.step("own-keys")
    walk.press("evaluation")
    assert "Spent this month" in walk.text()
    walk.step("own-key")
