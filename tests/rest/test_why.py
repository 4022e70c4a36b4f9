"""GET /api/v1/virtual-keys/{id}/why: the answer of the key's page and of `manage.py why`."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.auth.models import User

from messages_api.relay.why import Size, why
from tests.support.issued import make_key
from tests.support.rest import Program, error
from usage.models import Budget, Hold

pytestmark = pytest.mark.django_db


def test_it_is_the_answer_of_why(program):
    key, _ = make_key("alice")
    said = program.get(f"virtual-keys/{key.pk}/why?model=echo-1&input_tokens=5000&max_tokens=100")
    answer = why(key, "echo-1", Size(5000, 100))
    assert (said["may_call"], said["verdict"], said["max_tokens"]) == (True, "admitted", 100)
    assert Decimal(said["ceiling"]) == answer.ceiling
    assert [gate["title"] for gate in said["gates"]] == [gate.title for gate in answer.gates]
    Budget.objects.create(virtual_key=key, amount="0.000000000001")
    said = program.get(f"virtual-keys/{key.pk}/why?model=echo-1")
    assert (said["may_call"], said["verdict"]) == (False, "budget")
    (closed,) = [gate for gate in said["gates"] if not gate["is_open"]]
    assert closed["kind"] == "budget"
    assert closed["change"]
    assert not Hold.objects.exists()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "model"),
        ("?model=", "model"),
        ("?model=%00", "model"),
        ("?model=x&input_tokens=0", "input_tokens"),
        ("?model=x&max_tokens=1e3", "max_tokens"),
        ("?model=x&max_tokens=99999999999", "max_tokens"),
        ("?model=x&colour=red", "colour"),
    ],
)
def test_a_wrong_parameter_is_named(program, query, field):
    key, _ = make_key("alice")
    assert field in error(program.ask("GET", f"virtual-keys/{key.pk}/why{query}"), 400, "invalid")["fields"]


def test_it_needs_only_to_read_virtual_keys():
    key, _ = make_key("alice")
    boss = User.objects.create_superuser("boss")
    assert Program(boss, "virtual_keys:read").ask("GET", f"virtual-keys/{key.pk}/why?model=echo-1").status_code == 200
    refused = Program(boss, "budgets:read", name="other").ask("GET", f"virtual-keys/{key.pk}/why?model=echo-1")
    assert refused.status_code == 403
