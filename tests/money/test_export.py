from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal

import openpyxl
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from gateway_project import database
from keys.csv_lines import money
from keys.models import Credential
from tests.support.ledger_rows import START, empty_ledger, make_cast, make_entry
from usage import export

NAMED = """request_id, provider_request_id, started_at, ended_at, customer, team, virtual_key, endpoint,
requested_model, model, provider, provider_key, status, http_status, stop_reason, stream, input_tokens,
output_tokens, thinking_tokens,
cache_read_input_tokens, cache_creation_5m_input_tokens, cache_creation_1h_input_tokens, web_search_requests,
iterations, service_tier, inference_geo, cost, currency, estimated, time_to_first_byte_ms, duration_ms, attempts"""


@pytest.fixture
def cast(db):
    empty_ledger()
    return make_cast()


def run(*options):
    out = io.StringIO()
    call_command("export_usage", *options, stdout=out)
    return out.getvalue()


def rows(*options):
    return [json.loads(line) for line in run(*options).splitlines()]


def test_it_has_the_columns_that_scripts_go_by(cast):
    make_entry(cast.alice)
    named = NAMED.replace("\n", " ").replace(" ", "").split(",")
    assert list(rows()[0])[: len(named)] == named
    assert run("--format", "csv").splitlines()[0].split(",")[: len(named)] == named


def test_it_gives_values_their_types(cast):
    credential = Credential.objects.create(
        kind="gateway_token", name="nightly", virtual_key=cast.alice, digest=b"1", pepper="p", first="f", last="l"
    )
    entry = make_entry(
        cast.alice,
        provider_key=cast.provider_key,
        credential=credential.id,
        cost="0.0095",
        iterations=[{"type": "message", "input_tokens": 3}],
        labels={"project": "atlas"},
        time_to_first_byte_ms=None,
        stream=True,
    )
    [row] = rows()
    expected = {
        "request_id": f"req_bf_{entry.hex}",
        "started_at": "2026-11-02T10:00:00.000000Z",
        "ended_at": "2026-11-02T10:00:02.000000Z",
        "customer": "Ours",
        "team": "Research",
        "virtual_key": "alice",
        "provider_key": "main",
        "stream": True,
        "estimated": False,
        "http_status": 200,
        "input_tokens": 100,
        "iterations": [{"type": "message", "input_tokens": 3}],
        "attempts": [],
        "cost": "0.0095",
        "time_to_first_byte_ms": None,
        "labels": {"project": "atlas"},
        "credential_kind": "gateway_token",
        "credential_name": "nightly",
    }
    assert {name: row[name] for name in expected} == expected


def test_missing_values_are_null(cast):
    make_entry(cast.charlie)
    [row] = rows()
    assert row["team"] is None
    assert row["provider_key"] is None


def test_a_csv_says_the_same_as_text(cast):
    make_entry(cast.charlie, iterations=[{"a": "b"}], stream=True, cost="12", requested_model="a,b\n“c”")
    [row] = csv.DictReader(io.StringIO(run("--format", "csv")))
    assert row["iterations"] == '[{"a": "b"}]'
    assert row["stream"] == "true"
    assert row["estimated"] == "false"
    assert row["team"] == ""
    assert row["cost"] == "12"
    assert row["input_tokens"] == "100"
    assert row["requested_model"] == "a,b\n“c”"


def test_the_parts_of_an_amount_add_up_to_it_to_the_last_digit(cast):
    make_entry(cast.alice, cost="0.3", cost_split=[Decimal("0.1"), Decimal("0.15")], charge="0.6")
    [row] = rows()
    parts = {name: row[name] for name in row if name.startswith("cost_")}
    assert parts == dict.fromkeys(parts, "0") | {"cost_input": "0.1", "cost_output": "0.15", "cost_rest": "0.05"}
    assert sum(Decimal(row[name]) for name in row if name.startswith("charge_")) == Decimal(row["charge"])
    assert list(row)[-1] == "charge_rest"


def test_a_part_that_is_less_than_nothing_is_a_number_for_a_spreadsheet(cast):
    make_entry(cast.alice, cost="0.1", cost_split=[Decimal("0.3")])
    [row] = csv.DictReader(io.StringIO(run("--format", "csv")))
    assert row["cost_rest"] == "-0.2"


@pytest.mark.parametrize("kind", ["xlsx", "json"])
def test_a_file_says_its_filter_and_has_the_same_digits(cast, kind):
    make_entry(cast.alice, cost="12345.000012345678")
    out = io.TextIOWrapper(io.BytesIO())
    call_command("export_usage", "--format", kind, "--since", "2026-11-01", stdout=out)
    content = out.buffer.getvalue()
    if kind == "json":
        found = json.loads(content)
        about, [row] = found["about"], found["rows"]
        cost = row["cost"]
    else:
        book = openpyxl.load_workbook(io.BytesIO(content))
        titles, values = book["Calls"].iter_rows(values_only=True)
        cost = dict(zip(titles, values, strict=True))["cost_exact"]
        about = {name.lower().replace(" ", "_"): text for name, text in book["About"].iter_rows(2, values_only=True)}
    assert cost == "12345.000012345678"
    assert (about["filter"], about["time_zone"]) == ("since=2026-11-01", "UTC")
    assert about["made_at"].endswith("Z")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_nothing_from_a_csv(cast, text):
    make_entry(cast.alice, requested_model=text)
    [row] = csv.DictReader(io.StringIO(run("--format", "csv"), newline=""))
    assert row["requested_model"] == "'" + text
    assert rows()[0]["requested_model"] == text


def test_it_goes_from_the_oldest_on_through_all_pages(cast, monkeypatch):
    monkeypatch.setattr(export, "PAGE", 3)
    for number in (5, 2, 7, 1, 3, 6, 4, 0, 8):
        make_entry(cast.alice, START + timedelta(days=5 * number))
    started = [row["started_at"] for row in rows()]
    assert len(started) == 9
    assert started == sorted(started)


def test_the_range_includes_its_start_and_not_its_end(cast):
    for minutes in (-1, 0, 59, 60):
        make_entry(cast.alice, START + timedelta(minutes=minutes))
    for since, until in (
        ("2026-11-02T10:00:00", "2026-11-02T11:00:00"),
        ("2026-11-02T11:00:00+01:00", "2026-11-02T12:00+01:00"),
        ("2026-11-02T10:00:00Z", "2026-11-02T11:00:00Z"),
    ):
        assert len(rows("--since", since, "--until", until)) == 2
    assert len(rows("--since", "2026-11-02")) == 4
    assert len(rows("--until", "2026-11-02")) == 0
    assert len(rows("--since", "0001-01-01", "--until", "9999-12-31")) == 4


def test_it_finds_a_row_whose_process_had_another_time_than_the_database(cast):
    make_entry(cast.alice, START, admitted_at=START + timedelta(hours=3))
    assert len(rows("--since", "2026-11-02T12:00:00", "--until", "2026-11-02T14:00:00")) == 1


def test_it_gives_one_key_alone(cast):
    make_entry(cast.alice)
    make_entry(cast.bob)
    assert [row["virtual_key"] for row in rows("--virtual-key", "bob")] == ["bob"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--virtual-key", "nobody"], "--virtual-key: there is no virtual key “nobody”"),
        (["--since", "yesterday"], "--since: “yesterday” isn't an ISO 8601 date or time"),
        (["--until", "2026-13-01"], "--until: “2026-13-01” isn't an ISO 8601 date or time"),
    ],
)
def test_it_refuses_bad_input_in_one_line(cast, options, message):
    with pytest.raises(CommandError, match=message) as refusal:
        run(*options)
    assert refusal.value.returncode == 2
    assert "\n" not in str(refusal.value)


def test_names_are_asked_for_once(cast, django_assert_num_queries):
    for _ in range(20):
        make_entry(cast.alice, provider_key=cast.provider_key)
    with django_assert_num_queries(6):  # a page, and each kind of name
        assert len(list(export.read(export.Range()))) == 20


@pytest.mark.parametrize(
    ("amount", "text"), [("0.009500000000", "0.0095"), ("100.000", "100"), ("0E-12", "0"), ("1E+3", "1000")]
)
def test_money_is_plain_digits(amount, text):
    assert money(Decimal(amount)) == text


@pytest.mark.django_db(transaction=True)
def test_it_ends_quietly_when_its_reader_has_gone():
    empty_ledger()
    cast = make_cast()
    for _ in range(2000):
        make_entry(cast.alice)
    url = database.url_of(connection.settings_dict)
    command = f"{sys.executable} manage.py export_usage | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=settings.BASE_DIR,
        env=os.environ | {"DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["virtual_key"] == "alice"


def test_an_option_that_does_not_exist_is_refused_in_one_line():
    with pytest.raises(CommandError, match="unrecognized arguments: --bogus; see export_usage --help"):
        call_command("export_usage", "--bogus")
