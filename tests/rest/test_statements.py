"""Statements by REST: finance reads, a billing admin closes."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User

from administration.role_names import Role
from administration.roles import giving
from tests.support.ledger_rows import Cast, empty_ledger, make_cast
from tests.support.rest import Program, error
from tests.support.statement_cast import bill, called, close, make_issuer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cast(settings: Any) -> Cast:
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"lease_seconds": 60})
    empty_ledger()
    found = make_cast()
    bill(found.alice.customer, make_issuer())
    return found


def test_a_statement_is_listed_read_and_downloaded(program: Program, cast: Cast) -> None:
    called(cast.alice, cost=Decimal("2.5"))
    [statement] = close(cast.alice.customer)
    [listed] = program.get("statements?month=2026-10&kind=statement")["data"]
    assert listed == program.get(f"statements/{statement.pk}")
    assert (listed["number"], listed["total"], listed["month"]) == ("PF-00001", "2.5", "2026-10")
    assert program.get("statements?month=2026-09")["data"] == []
    file = program.get(f"statements/{statement.pk}/files/json")
    content = base64.b64decode(file["content"])
    assert file["sha256"] == hashlib.sha256(content).hexdigest() == listed["hash"]
    error(program.ask("GET", f"statements/{statement.pk}/files/other"), 404, "not_found")
    error(program.ask("GET", "statements?month=10"), 400, "invalid")


def test_an_evidence_pack_is_for_those_who_see_what_providers_charge(program: Program, cast: Cast) -> None:
    called(cast.alice, cost=Decimal("2.5"))
    [statement] = close(cast.alice.customer)
    path = f"statements/{statement.pk}/files/evidence.zip"
    file = program.get(path)
    content = base64.b64decode(file["content"])
    assert (file["name"], file["sha256"]) == ("PF-00001.evidence.zip", hashlib.sha256(content).hexdigest())
    with zipfile.ZipFile(io.BytesIO(content)) as pack:
        assert "calls.csv" in pack.namelist()
    person = User.objects.create_user("key admin")
    giving.give(None, person, Role.KEY_ADMIN, customer=cast.alice.customer)
    limited = Program(person)
    assert limited.get(f"statements/{statement.pk}/files/json")["sha256"] == statement.hash
    error(limited.ask("GET", path), 404, "not_found")


def test_a_month_is_closed_once(program: Program, cast: Cast) -> None:
    called(cast.alice)
    asked = {"customer_id": cast.alice.customer_id, "month": "2026-10"}
    assert program.post("statements/close", asked) == {"numbers": ["PF-00001"], "waits_for_second_person": False}
    assert program.ask("POST", "statements/close", asked).status_code == 400
    assert program.ask("POST", "statements/close", asked | {"month": "x"}).status_code == 400
    assert program.ask("POST", "statements/close", asked | {"customer_id": 0}).status_code == 400
