"""Billing ▸ Statements: months of customers, drafts, closing, documents, and who sees what."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from administration import mail as sender
from administration.role_names import Role
from administration.roles import giving
from administration.statements import listing
from billing.models import Issuer, Particulars, Statement
from keys.errors import Unusable
from tests.support.ledger_rows import Cast, empty_ledger, make_cast
from tests.support.statement_cast import IN_OCTOBER, OCTOBER, bill, called, close, corrected, make_issuer
from usage import repricing, rollups
from usage.demo import generate
from usage.models import LedgerEntry, Price
from usage.repricing import Prices

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def long_lease(settings: Any) -> None:
    """Tests that run beside this one may have long transactions."""
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"lease_seconds": 60})


@pytest.fixture
def cast() -> Cast:
    empty_ledger()
    return make_cast()


@pytest.fixture
def issuer(cast: Cast) -> Issuer:
    found = make_issuer()
    bill(cast.alice.customer, found, contacts="ada@example.com, ben@example.com")
    return found


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("boss"))
    return client


def person(role: Role, **scope: Any) -> Client:
    user = User.objects.create_user(role.value)
    giving.give(None, user, role, **scope)
    browser = Client()
    browser.force_login(user)
    return browser


def text_of(answer: Any, status: int = 200) -> str:
    """The text of a page, without its tags."""
    assert answer.status_code == status, answer.content[:500]
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def draft_url(cast: Cast) -> str:
    return f"/admin/billing/statements/draft/{cast.alice.customer_id}/2026-10/"


def test_an_empty_list_says_what_to_do_next(boss: Client) -> None:
    empty_ledger()
    assert "There is no customer yet" in text_of(boss.get("/admin/billing/statements/"))


def test_the_list_shows_open_and_closed_months_with_their_amounts(boss: Client, cast: Cast, issuer: Issuer) -> None:
    called(cast.alice, cost=Decimal("2.5"))
    called(cast.charlie, cost=Decimal("1.5"))
    rollups.roll_up()
    text = text_of(boss.get("/admin/billing/statements/?month=2026-10"))
    assert "Ours open – about $2.50" in text
    assert "Theirs open, without billing particulars – about $1.50" in text
    close(cast.alice.customer)
    text = text_of(boss.get("/admin/billing/statements/?month=2026-10"))
    assert "Ours closed PF-00001 2.50 USD" in text
    assert (
        "Theirs" not in text_of(boss.get("/admin/billing/statements/?month=2026-10&q=our")).partition("Amounts of")[0]
    )


@pytest.mark.parametrize(
    ("now", "zone", "month"),
    [
        ("2026-11-30T22:30", "Europe/Berlin", "2026-10"),
        ("2026-11-30T23:30", "Europe/Berlin", "2026-11"),
        ("2026-11-30T23:30", "UTC", "2026-10"),
        ("2026-12-01T00:30", "Europe/Berlin", "2026-11"),
        ("2026-12-01T00:30", "America/New_York", "2026-10"),
        ("2026-12-31T23:30", "Europe/Berlin", "2026-12"),
        ("2027-03-01T00:10", "Europe/Berlin", "2027-02"),
        ("2028-02-29T23:10", "Europe/Berlin", "2028-02"),
        ("2027-10-31T00:30", "Europe/Berlin", "2027-09"),
        ("2027-10-31T23:30", "Europe/Berlin", "2027-10"),
    ],
)
def test_the_list_begins_with_the_last_month_by_the_readers_clock(
    boss: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch, now: str, zone: str, month: str
) -> None:
    monkeypatch.setattr("usage.moments.now", lambda: datetime.fromisoformat(now).replace(tzinfo=UTC))
    boss.cookies["time_zone"] = zone
    answer: Any = boss.get("/admin/billing/statements/")
    assert (answer.context["form"]["month"].value(), f"{answer.context['month']:%Y-%m}") == (month, month)
    assert f'<option value="{month}" selected>' in answer.content.decode()


def test_amounts_of_open_months_are_exact_to_the_quarter_of_an_hour_in_each_zone(cast: Cast) -> None:
    since, until = datetime(2026, 9, 30, 18, 30, tzinfo=UTC), datetime(2026, 10, 31, 18, 30, tzinfo=UTC)
    for number, at in enumerate((since - timedelta(minutes=1), since, IN_OCTOBER, until - timedelta(minutes=1), until)):
        called(cast.alice, at=at, cost=Decimal(10) ** number)
    rollups.roll_up()
    assert listing.amounts_of({cast.alice.customer_id: (since, until)}) == {cast.alice.customer_id: Decimal(1110)}


def test_a_draft_says_what_is_missing(boss: Client, cast: Cast) -> None:
    called(cast.alice)
    text = text_of(boss.get(draft_url(cast)))
    assert "The customer has no billing particulars" in text
    assert "Close October" not in text
    this_month = draft_url(cast).replace("2026-10", f"{datetime.now(UTC):%Y-%m}")
    assert "isn’t over" in text_of(boss.get(this_month)).replace("&#x27;", "’")


def test_a_month_is_closed_on_its_draft_and_sent_to_the_contacts(
    boss: Client, cast: Cast, issuer: Issuer, settings: Any
) -> None:
    settings.EMAIL_HOST, settings.EMAIL_BACKEND = "mail", "django.core.mail.backends.locmem.EmailBackend"
    called(cast.alice)
    rollups.roll_up()
    text = text_of(boss.get(draft_url(cast)))
    assert "PF-00001" in text
    assert "Close October 2026" in boss.get(draft_url(cast)).content.decode()
    answer = boss.post(draft_url(cast))
    assert answer.headers["location"] == "/admin/billing/statements/PF-00001/"
    sender.SENDER.submit(lambda: None).result()
    assert sorted(each.to[0] for each in mail.outbox) == ["ada@example.com", "ben@example.com"]
    assert [name for name, _, _ in mail.outbox[0].attachments] == ["PF-00001.pdf"]
    text = text_of(boss.get(answer.headers["location"]))
    assert "Statement PF-00001" in text
    assert "Internal statement, not a tax invoice." in text
    text = text_of(boss.get("/admin/billing/statements/PF-00001/?verify=1"))
    assert "Yes: its hash, its lines, its files, the document before and the ledger agree." in text
    assert "is closed already" in text_of(boss.get(draft_url(cast)), 404)


def test_each_file_is_a_download(boss: Client, cast: Cast, issuer: Issuer) -> None:
    called(cast.alice)
    close(cast.alice.customer, make_files=lambda row, _: {f"{row.number}.pdf": b"%PDF-"})
    page = boss.get("/admin/billing/statements/PF-00001/").content.decode()
    for name in ("pdf", "csv", "xlsx", "json", "journal.csv", "focus.csv", "evidence.zip"):
        url = f"/admin/billing/statements/PF-00001/files/{name}"
        assert url in page
        answer = boss.get(url)
        assert answer.status_code == 200, name
        assert answer.headers["content-disposition"] == f'attachment; filename="PF-00001.{name}"'
    assert boss.get("/admin/billing/statements/PF-00001/files/exe").status_code == 404


def test_finance_reads_and_a_billing_admin_closes(cast: Cast, issuer: Issuer) -> None:
    called(cast.alice)
    finance, admin = person(Role.FINANCE), person(Role.BILLING_ADMIN)
    text = text_of(finance.get(draft_url(cast)))
    assert "A billing admin or an owner closes the month." in text
    assert finance.post(draft_url(cast)).status_code == 403
    assert admin.post(draft_url(cast)).status_code == 302
    assert finance.get("/admin/billing/statements/PF-00001/").status_code == 200
    assert finance.post("/admin/billing/statements/PF-00001/", {"reason": "x"}).status_code == 403


def test_a_team_admin_sees_the_statements_of_the_own_team_alone(cast: Cast, issuer: Issuer) -> None:
    called(cast.alice)
    called(cast.charlie)
    bill(cast.charlie.customer, issuer)
    Particulars.objects.filter(customer=cast.alice.customer).update(by_team=True)
    files: dict[str, Any] = {"make_files": lambda row, _: {f"{row.number}.pdf": b"%PDF-"}}
    close(cast.alice.customer, **files)
    close(cast.charlie.customer, **files)
    admin = person(Role.TEAM_ADMIN, team=cast.alice.team)
    text = text_of(admin.get("/admin/billing/statements/?month=2026-10"))
    assert "PF-00001" in text
    assert "PF-00002" not in text
    assert admin.get("/admin/billing/statements/PF-00002/").status_code == 404
    assert admin.get(draft_url(cast)).status_code == 403
    # The evidence has what providers charge.
    assert "evidence.zip" not in admin.get("/admin/billing/statements/PF-00001/").content.decode()
    assert admin.get("/admin/billing/statements/PF-00001/files/evidence.zip").status_code == 404


def test_with_four_eyes_the_page_asks_for_a_second_person(boss: Client, cast: Cast, issuer: Issuer) -> None:
    Issuer.objects.update(four_eyes=True)
    called(cast.alice)
    assert boss.post(draft_url(cast)).headers["location"] == draft_url(cast)
    text = text_of(boss.get(draft_url(cast)))
    assert "boss has asked to close it" in text
    assert "Another person has to confirm it." in text
    assert "waits for a second person" in text_of(boss.get("/admin/billing/statements/?month=2026-10"))
    other = person(Role.BILLING_ADMIN)
    assert "Confirm and close" in other.get(draft_url(cast)).content.decode()
    assert other.post(draft_url(cast)).headers["location"] == "/admin/billing/statements/PF-00001/"


def test_a_credit_note_is_issued_on_the_page_of_its_statement(boss: Client, cast: Cast, issuer: Issuer) -> None:
    call = called(cast.alice)
    close(cast.alice.customer)
    url = "/admin/billing/statements/PF-00001/"
    assert "Nothing has changed." in text_of(boss.get(f"{url}?credit=1"))
    assert "nothing to credit" in text_of(boss.post(url, {"reason": "x"}), 409)
    corrected(call, "-1")
    assert "-$1.00 for 0 late calls and 1 adjustment" in text_of(boss.get(f"{url}?credit=1"))
    assert boss.post(url, {"reason": "agreed"}).headers["location"] == "/admin/billing/statements/PF-CN-00001/"
    text = text_of(boss.get("/admin/billing/statements/PF-CN-00001/"))
    assert "Corrects PF-00001 : agreed" in text
    assert "PF-CN-00001" in text_of(boss.get(url))


@pytest.mark.parametrize(
    "path", ["%00/", "PF%00-1/", "x/files/%00", "draft/1/0001-01/", "draft/1/9999-99/", "draft/1/x/"]
)
def test_an_address_of_no_document_is_a_404(boss: Client, cast: Cast, path: str) -> None:
    assert boss.get(f"/admin/billing/statements/{path}").status_code == 404


def test_hostile_values_are_refused(boss: Client, cast: Cast, issuer: Issuer) -> None:
    assert "Choose one of the months" in text_of(boss.get("/admin/billing/statements/?month=x&q=%00&page=-1"))
    corrected(called(cast.alice), "-1")
    close(cast.alice.customer)
    assert "needs a reason" in text_of(boss.post("/admin/billing/statements/PF-00001/", {"reason": "a\0b"}), 409)


def test_pages_keep_their_bound_of_queries(boss: Client, cast: Cast, issuer: Issuer) -> None:
    for number in range(9):
        called(cast.alice, at=IN_OCTOBER + timedelta(hours=number), model=f"claude-x-{number}")
    rollups.roll_up()  # or else the first page does
    for url in ("/admin/billing/statements/?month=2026-10", draft_url(cast)):
        with CaptureQueriesContext(connection) as queries:
            assert boss.get(url).status_code == 200
        assert len(queries) <= 40
    close(cast.alice.customer)
    for query in ("", "?verify=1", "?credit=1"):
        with CaptureQueriesContext(connection) as queries:
            assert boss.get(f"/admin/billing/statements/PF-00001/{query}").status_code == 200
        assert len(queries) <= 40


def test_an_issuer_keeps_its_prefix_and_numbers_once_it_has_issued(boss: Client, cast: Cast, issuer: Issuer) -> None:
    url = f"/admin/billing/issuer/{issuer.pk}/change/"
    assert 'name="prefix"' in boss.get(url).content.decode()
    called(cast.alice)
    close(cast.alice.customer)
    page = boss.get(url).content.decode()
    assert 'name="prefix"' not in page
    assert 'name="address"' in page


def test_calls_of_closed_months_are_not_priced_again(cast: Cast, issuer: Issuer) -> None:
    called(cast.alice, cost=Decimal(9), price_version="other")
    called(cast.alice, at=IN_OCTOBER + timedelta(days=30), cost=Decimal(9), price_version="other")
    close(cast.alice.customer)
    outcome = repricing.reprice(
        LedgerEntry.objects.all(), Prices(datetime.now(UTC)), reason="contract", author="finance"
    )
    assert (outcome.closed, outcome.total.calls) == (1, 1)
    assert not Price.objects.exists()


def test_no_demo_data_comes_to_closed_months(cast: Cast, issuer: Issuer) -> None:
    called(cast.alice)
    close(cast.alice.customer)
    with pytest.raises(Unusable, match="closed months"):
        generate.check_empty()


def test_commands_close_and_verify(cast: Cast, issuer: Issuer) -> None:
    called(cast.alice, cost=Decimal("2.5"))
    assert said("close_month", "2026-10") == "Ours: 2.50 USD, 2.5 USD\n"
    assert not Statement.objects.exists()
    assert said("close_month", "2026-10", "--yes") == "Ours: PF-00001, 2.50 USD\n"
    assert said("close_month", "2026-10", "--yes") == ""
    assert said("verify_statement") == "PF-00001: it is as it was issued\n"
    for command in (
        ("verify_statement", "PF-00007"),
        ("close_month", "10/2026"),
        ("close_month", "2026-10", "--customer", "x"),
    ):
        with pytest.raises(CommandError):
            said(*command)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE billing_statementline DISABLE TRIGGER USER")
        cursor.execute("UPDATE billing_statementline SET quantity = quantity + 1")
        cursor.execute("ALTER TABLE billing_statementline ENABLE TRIGGER USER")
    with pytest.raises(CommandError) as failed:
        said("verify_statement", "PF-00001")
    assert failed.value.returncode == 1


def said(*command: str) -> str:
    """What a command prints."""
    out = io.StringIO()
    call_command(*command, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_the_draft_of_one_month_has_the_amounts_that_closing_it_freezes(
    boss: Client, cast: Cast, issuer: Issuer
) -> None:
    called(cast.alice)
    called(cast.bob)
    rollups.roll_up()
    draft = re.findall(r"\$\d\.\d+|\d+\.\d\d USD", text_of(boss.get(draft_url(cast))))
    [statement] = close(cast.alice.customer, OCTOBER)
    shown = text_of(boss.get(f"/admin/billing/statements/{statement.number}/"))
    assert [amount for amount in draft if amount.endswith("USD") and amount not in shown] == []
    assert json.loads(statement.content)["calls"] == 2
