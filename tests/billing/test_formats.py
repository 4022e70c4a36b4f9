"""The files of a document: exact, safe in spreadsheets, and the same each time."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from datetime import timedelta
from decimal import Decimal
from typing import Any

import openpyxl
import pytest

from billing import evidence
from billing.formats import MADE, csv_file, focus, journal, pdf
from billing.models import Issuer, LineKind, Particulars, Statement
from keys.models import ProviderKey, VirtualKey
from reconciliation.models import Comparison
from tests.support.ledger_rows import Cast, empty_ledger, make_cast
from tests.support.statement_cast import IN_OCTOBER, OPUS, bill, called, close, corrected, make_issuer
from usage import rollups
from usage.models import ExchangeRate
from usage.pricing import load_price_book
from usage.tokens import TokenCounts

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cast() -> Cast:
    empty_ledger()
    return make_cast()


@pytest.fixture
def issuer(cast: Cast) -> Issuer:
    return make_issuer()


@pytest.fixture
def statement(cast: Cast, issuer: Issuer) -> Statement:
    """October of Alice's customer in EUR: tokens of two cost centres, searches, an estimate and an adjustment."""
    bill(
        cast.alice.customer,
        issuer,
        billing_name="=Łódź & Söhne",
        address="1 Lane\nTown",
        currency="EUR",
        cost_centre="4000",
        debit_account="6805",
        credit_account="1590",
    )
    ExchangeRate.objects.create(currency="EUR", rate=Decimal("0.91"), source="ECB", valid_from=IN_OCTOBER)
    VirtualKey.objects.filter(pk=cast.bob.pk).update(name="=cmd|' /C calc'!A0")
    used = TokenCounts(input_tokens=123_457, output_tokens=70_001, cache_read_input_tokens=1_000_003)
    called(cast.alice, used=used, labels={"cost_centre": "4711"})
    called(cast.bob, used=TokenCounts(input_tokens=5, output_tokens=7_000, web_search_requests=2))
    corrected(called(cast.bob, estimated=True, cost=Decimal("0.5")), "-0.1", reason="=1+1")
    [found] = close(cast.alice.customer, make_files=pdf.make)
    return found


def table(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))


def test_the_json_file_has_the_hash(statement: Statement) -> None:
    content = MADE["json"][1](statement)
    assert hashlib.sha256(content).hexdigest() == statement.hash
    said = json.loads(content)
    assert (said["number"], said["previous"], len(said["lines"])) == ("PF-00001", "", statement.lines.count())


def test_the_csv_has_every_line_with_all_digits_and_no_formula(statement: Statement) -> None:
    rows = table(csv_file.make(statement))
    assert sum(Decimal(row["net"]) for row in rows) == statement.total_usd
    assert sum(Decimal(row["amount"]) for row in rows) == statement.total
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+"))]


def test_the_workbook_opens_with_exact_amounts_as_text_and_no_formula(statement: Statement) -> None:
    content = MADE["xlsx"][1](statement)
    assert content == MADE["xlsx"][1](statement)
    book = openpyxl.load_workbook(io.BytesIO(content))
    sheet: Any = book["Lines"]
    titles, *rows = sheet.iter_rows(values_only=True)
    exact, name = titles.index("net_exact"), titles.index("virtual_key")
    assert sum(Decimal(row[exact]) for row in rows) == statement.total_usd
    assert "=cmd|' /C calc'!A0" in [row[name] for row in rows]
    assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "n", "b", "inlineStr"}


def test_the_journal_is_balanced_by_cost_centre(statement: Statement) -> None:
    rows = table(journal.make(statement))
    debits, credits = (sum(Decimal(row[side] or 0) for row in rows) for side in ("debit", "credit"))
    assert debits == credits == statement.total
    assert [(row["cost_centre"], row["account"]) for row in rows] == [
        ("4000", "6805"),
        ("4711", "6805"),
        ("4000", "1590"),
    ]


def test_focus_keeps_its_rules_and_adds_up_to_the_statement(statement: Statement) -> None:
    rows = list(focus.rows(statement))
    assert focus.check(rows) == []
    assert len(focus.columns()) == len(set(focus.columns()))
    assert sum(1 for each in focus.rules()["columns"] if each.get("mandatory")) == 21
    assert sum(Decimal(row["BilledCost"]) for row in rows) == statement.total
    assert {row["InvoiceId"] for row in rows} == {"PF-00001"}
    kinds = {row["ChargeDescription"]: row["ChargeCategory"] for row in rows}
    assert (kinds["claude-opus-5-5, web search"], kinds["claude-opus-5-5, not split by category"]) == (
        "Usage",
        "Adjustment",
    )
    written = table(focus.make(statement))
    assert written[0].keys() == set(focus.columns())
    # A negative amount is a number in the file, too.
    assert sum(Decimal(row["BilledCost"]) for row in written) == statement.total
    assert min(Decimal(row["BilledCost"]) for row in written) < 0


def test_the_rounding_line_is_a_row_of_focus(cast: Cast, issuer: Issuer) -> None:
    bill(cast.alice.customer, issuer)
    price = load_price_book().price("anthropic", OPUS, IN_OCTOBER)
    for key in (cast.alice, cast.bob):
        # Half a cent each, which is rounded down to the even cent.
        called(key, used=TokenCounts(input_tokens=int(5_000 / price.input)))
    [statement] = close(cast.alice.customer)
    rows = list(focus.rows(statement))
    assert [row["BilledCost"] for row in rows] == ["0", "0", "0.01"]
    assert (rows[-1]["ChargeDescription"], rows[-1]["ChargeCategory"]) == ("rounding of the lines", "Adjustment")
    assert focus.check(rows) == []
    assert statement.total == Decimal("0.01")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"BilledCost": ""}, "BilledCost is null"),
        ({"BilledCost": "1,5"}, "BilledCost is no decimal"),
        ({"ChargeCategory": "Fee"}, "ChargeCategory is Fee"),
        ({"PricingUnit": ""}, "together"),
        ({"ContractedCost": "9"}, "product"),
        ({"BillingPeriodEnd": "2026-01-01T00:00:00Z"}, "before"),
        ({"SkuId": "", "SkuPriceId": ""}, "not_null"),
        ({"Colour": "red"}, "Colour is no column"),
    ],
)
def test_the_check_of_focus_finds_what_is_wrong(statement: Statement, change: dict[str, str], fault: str) -> None:
    row = next(each for each in focus.rows(statement) if each["ChargeCategory"] == "Usage")
    assert fault in " ".join(focus.check([row | change]))


def test_the_pdf_is_made_once_and_kept(statement: Statement) -> None:
    [file] = statement.files.all()
    content = bytes(file.content)
    assert (file.name, content[:5]) == ("PF-00001.pdf", b"%PDF-")
    assert hashlib.sha256(content).hexdigest() == file.sha256
    assert b"pdfuaid" in content
    assert pdf.make(statement, MADE["json"][1](statement)) == {"PF-00001.pdf": content}


def test_a_long_document_has_a_pdf_with_the_sums_of_keys_and_models(statement: Statement, monkeypatch: Any) -> None:
    monkeypatch.setattr(pdf, "MOST", 2)
    said = json.loads(MADE["json"][1](statement))
    found = pdf.described(said, statement.hash)
    assert found["shortened"] == statement.lines.count()
    assert len(found["lines"]) < found["shortened"]
    assert pdf.make(statement, MADE["json"][1](statement))


def test_the_evidence_pack_has_the_rows_behind_a_statement(statement: Statement) -> None:
    with evidence.make(statement, names=True) as file, zipfile.ZipFile(file) as pack:
        files = {name: pack.read(name) for name in pack.namelist()}
    calls, adjustments = (table(files[name]) for name in ("calls.csv", "adjustments.csv"))
    assert (len(calls), len(adjustments)) == (3, 1)
    assert sum(Decimal(row["owed"]) for row in (*calls, *adjustments)) == statement.total_usd
    assert files["verification.txt"] == b"PF-00001 is as it was issued.\n"
    manifest = [line.split("  ") for line in files["manifest.txt"].decode().splitlines()]
    digests = {name: digest for digest, name in manifest}
    assert digests == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != "manifest.txt"
    }
    assert "closed" in files["audit.csv"].decode()


def test_an_evidence_pack_has_what_providers_report_for_the_customers_calls(cast: Cast, issuer: Issuer) -> None:
    bill(cast.alice.customer, issuer)
    shared, other = (ProviderKey.objects.create(name=name, provider="anthropic") for name in ("shared", "other"))
    called(cast.alice, provider_key=cast.provider_key)
    called(cast.alice, provider_key=shared)
    called(cast.charlie, provider_key=shared)
    called(cast.charlie, provider_key=other)
    rollups.roll_up()
    dust = Decimal("1.0000000000000000000000000001")
    for key in (cast.provider_key, shared, other):
        of_key = {"provider_key": key, "model": OPUS, "mode": "standard", "our_requests": 1, "ours": 1}
        Comparison.objects.create(start=IN_OCTOBER, theirs=dust, unexplained=dust - 1, their_requests=1, **of_key)
        Comparison.objects.create(start=IN_OCTOBER + timedelta(hours=1), theirs=2, fees=1, their_requests=2, **of_key)
        Comparison.objects.create(start=IN_OCTOBER - timedelta(days=40), theirs=9, **of_key)
    [statement] = close(cast.alice.customer)
    with evidence.make(statement, names=True) as file, zipfile.ZipFile(file) as pack:
        rows, about = table(pack.read("reconciliation.csv")), pack.read("README.txt").decode()
    assert [(row["provider_key"], row["used_by"]) for row in rows] == [
        ("main", "this customer only"),
        ("shared", "several customers"),
    ]
    assert {name: rows[0][name] for name in ("day", "their_requests", "theirs", "ours", "difference", "fees")} == {
        "day": f"{IN_OCTOBER:%Y-%m-%d}",
        "their_requests": "3",
        "theirs": "3.0000000000000000000000000001",
        "ours": "2",
        "difference": "1.0000000000000000000000000001",
        "fees": "1",
    }
    assert rows[0]["unexplained"] == "0.0000000000000000000000000001"
    assert "reconciliation.csv what providers report" in about
    with evidence.make(statement, names=True, compared=False) as file, zipfile.ZipFile(file) as pack:
        assert "reconciliation.csv" not in pack.namelist()


def test_a_credit_note_is_on_the_other_sides_of_the_journal(cast: Cast, statement: Statement) -> None:
    from billing import credit_notes

    corrected(next(iter_calls(cast)), "-1")
    Particulars.objects.update(cost_centre="4001")
    [note] = credit_notes.issue(statement.closing, reason="agreed", by="finance", make_files=pdf.make)
    rows = table(journal.make(note))
    assert [(row["account"], row["debit"], row["credit"]) for row in rows] == [
        ("6805", "", "0.91"),
        ("1590", "0.91", ""),
    ]
    assert focus.check(list(focus.rows(note))) == []
    assert {row["ChargeClass"] for row in focus.rows(note) if row["ChargeDescription"] != "rounding of the lines"} == {
        "Correction"
    }
    assert note.lines.get(kind=LineKind.ADJUSTMENT).refers_to == "PF-00001"


def iter_calls(cast: Cast) -> Any:
    from usage.models import LedgerEntry

    return iter(LedgerEntry.objects.filter(virtual_key=cast.bob).values_list("pk", flat=True))
