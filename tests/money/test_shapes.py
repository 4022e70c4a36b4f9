"""The columns of holds and of ledger rows: structs say them once, and SQL, models and tests follow."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import msgspec
import pytest
from django.db import connection
from django.utils import timezone

from tests.support.asked_arbiter import arbiter, give_credential, settlement
from tests.support.ledger_rows import make_cast
from usage import functions
from usage.arbitration import Admission, HoldColumns, Passed, Settlement, UsageColumns
from usage.models import Adjustment, DayTotal, Hold, LedgerEntry, Rollup
from usage.models import Tokens as TokenColumns
from usage.request_ids import new_id

# What the arbiter fills in.
OF_A_HOLD = {"process", "expires_at", "admitted_at", "virtual_key_id", "team_id", "customer_id", "labels"}
OF_A_ROW = OF_A_HOLD - {"process", "expires_at"} | {
    *("ended_at", "credential", "client_labels", "endpoint", "requested_model", "stream", "held", "xid"),
}
# Columns that only SQL knows (usage/sql/budgets.sql).
BESIDE_THE_MODELS = {"charges", "throttles", "shares"}


def fields(model) -> set[str]:
    return {field.attname for field in model._meta.concrete_fields}


def table(name: str) -> set[str]:
    with connection.cursor() as cursor:
        return {column.name for column in connection.introspection.get_table_description(cursor, name)}


@pytest.mark.django_db
def test_a_hold_has_the_columns_of_its_struct():
    assert fields(Hold) == functions.columns(HoldColumns).keys() - BESIDE_THE_MODELS | OF_A_HOLD
    assert table("usage_hold") == fields(Hold) | BESIDE_THE_MODELS


@pytest.mark.django_db
def test_a_row_has_the_columns_of_its_struct():
    assert fields(LedgerEntry) == functions.columns(Settlement).keys() | OF_A_ROW
    assert table("usage_ledgerentry") == fields(LedgerEntry) | {"charges"}


def test_all_tables_with_tokens_have_the_same_token_columns():
    tokens = functions.columns(UsageColumns).keys() | {"charge"}
    assert fields(TokenColumns) == tokens
    for model in (LedgerEntry, Adjustment, Rollup, DayTotal):
        assert tokens <= fields(model)


@pytest.mark.django_db
def test_defaults_of_structs_and_models_agree():
    call = new_id()
    hold, settlement = HoldColumns(id=call, credential=1), Settlement(id=call, status="completed")
    for given, model in ((hold, Hold), (settlement, LedgerEntry)):
        for field in model._meta.concrete_fields:
            if field.has_default() and field.attname in given.__struct_fields__ and field.name != "id":
                assert getattr(given, field.attname) == field.get_default(), field.attname


def test_placeholders_are_filled_in_from_structs():
    assert functions.fill_in("({{tokens: #}})").startswith("(input_tokens, output_tokens, thinking_tokens, ")
    assert functions.fill_in("{{tokens: a.# - b.#}}").endswith(", a.cost - b.cost")
    typed = functions.fill_in("{{admission: # @}}")
    for column in ("id uuid", "ceiling numeric(30, 12)", "shares jsonb", "stream boolean", "expires_seconds bigint"):
        assert column in typed.split(", ") or column in typed
    defaults = functions.fill_in("{{settlement: #=?}}")
    for default in ("id=NULL", "iterations='[]'", "currency='USD'", "estimated=false", "cost=0", "http_status=NULL"):
        assert default in defaults.split(", ")
    assert "{{" not in functions.SQL


def test_no_sql_lists_the_columns_itself():
    """It would miss the next column."""
    text = "".join((functions.FOLDER / name).read_text() for name in functions.FILES)
    for name, shape in (("usage_hold", "held"), ("usage_ledgerentry", "settlement")):
        inserts = re.findall(rf"INSERT INTO {name} (\(\s*\S+ \S+)", text)
        assert inserts
        assert {" ".join(each.split()) for each in inserts} == {f"( {{{{{shape}: #}}}},"}


@pytest.fixture
def asked(apart):
    with arbiter() as asked:
        yield asked


@pytest.fixture
def alice(apart):
    return give_credential(make_cast().alice)


def test_what_a_settlement_leaves_out_has_its_default(asked, alice):
    """As in the spool of an older version, which knew fewer columns."""
    call, _ = asked.admit(alice)
    short = {"id": str(call.id), "status": "completed", "cost": "0.5", "model": "m"}
    assert asked.link.execute("SELECT * FROM usage_settle(%s)", [json.dumps([short])]).fetchall() == []
    row = LedgerEntry.objects.get()
    assert (row.cost, row.currency, row.iterations, row.attempts) == (Decimal("0.5"), "USD", [], [])
    assert (row.output_tokens, row.estimated, row.http_status, row.price_flag) == (0, False, None, "")


def test_a_hold_is_the_same_however_it_is_made(asked, alice):
    """By a call without a budget, by one with a budget, and afterwards."""
    from usage.models import Budget

    def hold(call: Admission) -> dict[str, object]:
        found = Hold.objects.get(id=call.id)
        return {
            name: getattr(found, name) for name in functions.columns(HoldColumns).keys() - {"id"} - BESIDE_THE_MODELS
        }

    plain, _ = asked.admit(alice)
    late = asked.ask(alice)
    passed = json.loads(msgspec.json.encode([Passed(late, timezone.now()).asked()]))
    asked.one("SELECT usage_admit_late(%s, %s::jsonb)", asked.process, json.dumps(passed))
    Budget.objects.create(team=alice.team, amount=10)
    counted, verdict = asked.admit(alice)
    assert verdict == "admitted"
    assert hold(plain) == hold(late) == hold(counted)


def test_structs_have_defaults():
    assert Admission(id=new_id(), credential=1, revision=1, catalogue_revision=1).hold is False
    assert Settlement(id=new_id(), status="completed").currency == "USD"
    assert settlement(Admission(id=new_id(), credential=1, revision=1, catalogue_revision=1)).status == "completed"
