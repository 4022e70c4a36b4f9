"""The one list of refused calls: kept or counted, in the reader's language, by the id that the caller has."""

from __future__ import annotations

import ast
import io
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from django.contrib.auth.models import User
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.urls import reverse
from django.utils import timezone

from keys import issuing
from keys.connection import Reader
from keys.models import Customer
from messages_api.relay import routing
from tests.money.test_wording import messages
from tests.support.gateway import CLIENT, ask, credentials, post, refused, wait_until
from tests.support.issued import make_key
from tests.support.ledger_rows import empty_ledger, make_cast, make_entry
from usage import refusal_log, refusal_reasons, request_ids
from usage.models import Budget, Limit, Refusal
from usage.refusal_log import KEPT_SINGLY, WAITING, RefusalLog

CATALOGUES = sorted(Path(refusal_reasons.__file__).with_name("locale").glob("*/LC_MESSAGES/django.po"))
GERMAN = {"HTTP_ACCEPT_LANGUAGE": "de-AT,de;q=0.9,en;q=0.5"}


@pytest.fixture
def web(served, start_web):
    """A web process for these tests only: what other tests are refused in the same minute counts in their process, and
    so would take the rows that these tests look for."""
    return start_web(admission_seconds=4.75)


@pytest.fixture
def still(monkeypatch):
    """A log whose minute doesn't end during a test."""
    now = datetime.now(UTC)

    class Still(datetime):
        @classmethod
        def now(cls, tz=None):
            return now.astimezone(tz)

    monkeypatch.setattr(refusal_log, "datetime", Still)


@pytest.fixture
def admin(client, request):
    request.getfixturevalue("served" if "web" in request.fixturenames else "db")
    client.force_login(User.objects.create_superuser("reader"))
    return client


def listed(client, query="", key=None, **headers):
    asked = ({"q": query} if query else {}) | ({"virtual_key__id__exact": key.pk} if key else {})
    page = client.get("/admin/usage/refusal/", asked, **headers)
    assert page.status_code == 200
    return page


def rows(page):
    return list(page.context["cl"].result_list)


def texts(page):
    """The list's cells as a reader sees them, a list for each row."""
    table = re.search(r'<table id="result_list">.*</table>', page.content.decode(), re.S)
    assert table, "the list is empty"
    lines = re.findall(r"<tr>(.*?)</tr>", table[0].split("<tbody>")[1], re.S)
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", line)).strip() for line in lines]


def noted(log, count, reason="revoked", **changes):
    ids = [request_ids.new_id() for _ in range(count)]
    for call in ids:
        plain = {"http_status": 401, "error_type": "authentication_error", "message": "This key was revoked."}
        log.note(call, reason=reason, endpoint="messages", **plain | changes)
    return ids


def save(log):
    """Flush it here and now: nothing in it waits."""
    with pytest.raises(StopIteration):
        log.flush().send(None)


class Here(Reader):
    """Statements on the test's own connection."""

    def __init__(self, *failures):
        self.failures = list(failures)

    async def fetch(self, statement, values=()):
        if self.failures:
            raise self.failures.pop(0)
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
        return []


def test_a_storm_is_in_the_list_with_its_count_and_its_last_call(web, alice, admin):
    issuing.revoke(alice.virtual_key)
    answers = [post(web, alice.key) for _ in range(KEPT_SINGLY * 2 + 3)]
    ids = [answer.json()["request_id"] for answer in answers]
    assert [answer.headers["request-id"] for answer in answers] == ids

    def all_of_them():
        found = Refusal.objects.filter(reason="revoked", virtual_key=alice.virtual_key)
        return sum(row.count for row in found) == len(ids) and list(found)

    found = wait_until(all_of_them)
    counted = [row for row in found if row.minute]
    assert 1 <= len(counted) <= 2
    assert ids[-1] in {request_ids.request_id(row.pk) for row in found}
    shown = texts(listed(admin, key=alice.virtual_key))
    assert len(shown) == len(found)
    assert all("The credential was revoked" in line and "alice Acme / Research" in line for line in shown)
    assert sum("more at" in line for line in shown) == len(counted)
    for call in ids:
        assert rows(listed(admin, call)), "every id that a caller has leads somewhere"
    assert [row.pk for row in rows(listed(admin, ids[0]))] == [request_ids.parse(ids[0])]


@pytest.mark.parametrize(
    ("method", "path", "key", "status", "reason"),
    [
        ("POST", "/v1/messages", None, 401, "No credential was sent"),
        ("POST", "/v1/messages", "sk-bf-nonsense", 401, "The credential is mistyped"),
        ("POST", "/v1/messages", "", 400, "The request is malformed"),
        ("GET", "/v1/messages", "", 405, "The request is malformed"),
        ("GET", "/v1/files/file_1", "", 404, "The request names something that is not there"),
        ("POST", "/v1/complete", "", 404, "There is no such endpoint"),
        ("POST", "/nope/v1/messages", None, 404, "There is no such endpoint"),
    ],
)
def test_every_refused_call_is_found_by_the_id_that_the_caller_has(
    web, alice, admin, method, path, key, status, reason
):
    headers = {} if key is None else credentials(key or alice.key)
    answer = CLIENT.request(method, web.url + path, headers=headers)
    assert answer.status_code == status
    call = answer.headers["request-id"]
    wait_until(lambda: rows(listed(admin, call)))
    (line,) = texts(listed(admin, call))
    assert call in line
    assert reason in line
    assert str(status) in line


def test_a_budget_speaks_to_the_reader_not_to_the_caller(web, alice, admin):
    Customer.objects.update(language="ja")
    Budget.objects.create(team=alice.team, amount=Decimal("0.000001"))
    answer = post(web, alice.key)
    assert "予算" in refused(answer, 429, "billing_error") or "チーム" in answer.text
    call = answer.headers["request-id"]
    wait_until(lambda: rows(listed(admin, call)))
    english, german = (texts(listed(admin, call, **headers))[0] for headers in ({}, GERMAN))
    assert "A budget has too little left This call needs up to $" in english
    assert "for team Research" in english
    assert "Ein Budget hat zu wenig übrig Dieser Aufruf benötigt bis zu" in german
    assert "チーム" not in english + german
    page = admin.get(f"/admin/usage/refusal/{request_ids.parse(call)}/change/", **GERMAN).content.decode()
    assert "Dieser Aufruf benötigt bis zu" in page
    assert "チーム" in page, "the message to the caller is there word for word"


def test_a_limit_speaks_to_the_reader_not_to_the_caller(web, echo_alice, admin):
    Customer.objects.update(language="de")
    Limit.objects.create(kind="rpm", rate=1, burst=1, virtual_key=echo_alice.virtual_key)
    answers = [post(web, echo_alice.key, ask(model="echo-1")) for _ in range(2)]
    assert "Grenze von" in refused(answers[1], 429, "rate_limit_error")
    call = answers[1].headers["request-id"]
    wait_until(lambda: rows(listed(admin, call)))
    assert "Limit of 1 request a minute" in texts(listed(admin, call))[0]
    assert "1 verzoek per minuut" in texts(listed(admin, call, HTTP_ACCEPT_LANGUAGE="nl"))[0]


@pytest.mark.parametrize(
    ("accepted", "said"),
    [
        ("", "The credential was revoked"),
        ("en-US", "The credential was revoked"),
        ("sv", "The credential was revoked"),
        ("de-CH", "Die Zugangsdaten wurden widerrufen"),
        ("pt-BR", "A credencial foi revogada"),
        ("zh-CN,zh;q=0.9", "凭据已被撤销"),
        ("tlh, \x80;q=x", "The credential was revoked"),
    ],
)
def test_reasons_are_in_the_readers_language(admin, accepted, said):
    log = RefusalLog(Here())
    noted(log, 1)
    save(log)
    page = listed(admin, HTTP_ACCEPT_LANGUAGE=accepted)
    assert said in texts(page)[0]
    assert said in page.content.decode().split("result_list")[0], "the filter says it too"


@pytest.mark.django_db
def test_processes_count_together_and_the_last_call_is_the_one_that_is_shown(still):
    logs = [RefusalLog(Here()), RefusalLog(Here())]
    ids = [noted(log, KEPT_SINGLY + 5) for log in logs]
    for log in logs:
        save(log)
    counted = list(Refusal.objects.filter(minute__isnull=False))
    assert sum(row.count for row in counted) == 10
    assert ids[1][-1] in {row.pk for row in counted}
    assert Refusal.objects.filter(minute=None).count() == 2 * KEPT_SINGLY


@pytest.mark.django_db
def test_rows_that_can_not_be_written_now_are_written_with_the_next():
    log = RefusalLog(Here(psycopg.OperationalError(), psycopg.OperationalError()))
    noted(log, KEPT_SINGLY + 2)
    save(log)
    noted(log, 3)
    save(log)
    assert not Refusal.objects.exists()
    save(log)
    assert sum(Refusal.objects.values_list("count", flat=True)) == KEPT_SINGLY + 5
    save(log)
    assert sum(Refusal.objects.values_list("count", flat=True)) == KEPT_SINGLY + 5


def test_the_rows_that_wait_for_the_database_are_bounded():
    log = RefusalLog(Here())
    for key in range(3 * WAITING):
        for reason in ("revoked", "expired"):
            noted(log, 1, reason, virtual_key=key, message="m" * 10_000, requested_model="x" * 10_000)
    assert len(log.single) == WAITING
    assert len(log.counted) <= WAITING + 2 * 2
    assert sum(count for count, _ in log.counted.values()) == 5 * WAITING
    assert max(len(each.message) for each in log.single) == 500


@pytest.mark.django_db
def test_text_that_the_database_does_not_take_loses_no_refusal():
    log = RefusalLog(Here())
    noted(log, 1, message="a\0b\ud800", requested_model="\0" * 300, credential_hint="\udfff")
    save(log)
    row = Refusal.objects.get()
    assert (row.message, row.requested_model) == ("a\ufffdb?", "\ufffd" * 200)


def test_an_id_that_was_only_counted_leads_to_the_count_of_its_minute(admin, still):
    log = RefusalLog(Here())
    ids = noted(log, KEPT_SINGLY + 5)
    save(log)
    page = listed(admin, request_ids.request_id(ids[KEPT_SINGLY + 1]))
    assert {row.minute for row in rows(page)} <= {
        datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=late) for late in (0, 1)
    }
    assert rows(page)
    assert "This call may be one of those below" in page.content.decode()
    # What isn't a call's id has any time in it.
    for nonsense in ("ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000000", "req_bf_x", "%"):
        assert rows(listed(admin, nonsense)) == []


def test_a_call_that_was_let_through_is_pointed_to_in_the_ledger(admin):
    empty_ledger()
    call = make_entry(make_cast().alice)
    page = listed(admin, request_ids.request_id(call))
    assert rows(page) == []
    assert reverse("admin:call", args=[request_ids.request_id(call)]) in page.content.decode()


def test_the_list_is_filtered_by_reason_and_reads_no_more_than_a_page(admin, django_assert_max_num_queries):
    log = RefusalLog(Here())
    for reason in ("revoked", "cut", "expired"):
        noted(log, KEPT_SINGLY + 1, reason)
    save(log)
    # The first page of a session records it.
    admin.get("/admin/usage/refusal/")
    with django_assert_max_num_queries(12):
        page = admin.get("/admin/usage/refusal/", {"why": "revoked"})
    assert {row.reason for row in rows(page)} == {"revoked", "cut"}
    assert len(rows(admin.get("/admin/usage/refusal/", {"why": "nonsense"}))) == 50
    Refusal.objects.filter(reason="cut").update(
        requested_model="claude-x", refused_at=timezone.now() - timedelta(hours=3)
    )
    assert {row.reason for row in rows(listed(admin, "claude-x"))} == {"cut"}
    recent = rows(admin.get("/admin/usage/refusal/", {"hours": "1"}))
    assert {row.reason for row in recent} == {"revoked", "expired"}
    other, _ = make_key("other")
    Refusal.objects.filter(reason="expired").update(virtual_key=other)
    for query in ({"virtual_key__id__exact": other.pk}, {"virtual_key__team__id__exact": other.team_id}):
        assert {row.reason for row in rows(admin.get("/admin/usage/refusal/", query))} == {"expired"}
    assert "_facets" not in page.content.decode()
    assert not admin.get("/admin/usage/refusal/", {"_facets": "True"}).context["cl"].add_facets


@pytest.mark.django_db
@pytest.mark.parametrize("facts", [{}, {"kind": "rpm"}, {"unit": "usd", "left": "x"}, {"max_tokens": None}])
def test_facts_of_another_version_do_no_harm(admin, facts):
    for reason in ("budget", "limit"):
        log = RefusalLog(Here())
        noted(log, 1, reason, message=f"what was said of a {reason}", facts=facts)
        save(log)
    assert sum("what was said of a" in line for line in texts(listed(admin))) == 2


def test_every_reason_has_a_sentence():
    folder = Path(routing.__file__).parent.parent
    trees = [ast.parse(path.read_text()) for path in folder.rglob("*.py")]
    given = [each.value for tree in trees for each in ast.walk(tree) if isinstance(each, ast.keyword) and named(each)]
    reasons = {ast.unparse(value).strip("'") for value in given}
    kinds = {"f'lost_{one.kind}", "f'unknown_{one.kind}"}
    assert reasons >= kinds | {"budget", "limit", "database_away"}
    assert reasons - kinds <= set(refusal_reasons.SENTENCE_OF)


def named(each):
    return each.arg == "reason" and isinstance(each.value, ast.Constant | ast.JoinedStr)


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
def test_catalogues_of_reasons_are_complete_and_compiled(path):
    with path.open("rb") as file:
        catalogue = read_po(file)
    assert {entry.id for entry in catalogue if entry.id and entry.string and not entry.fuzzy} == set(
        refusal_reasons.SENTENCES
    )
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    with path.with_suffix(".mo").open("rb") as file:
        assert messages(file) == messages(compiled), "say make translations"


def test_reasons_are_said_in_the_languages_that_budgets_are():
    spoken = Path(routing.__file__).parent.parent / "locale"
    assert {path.parts[-3] for path in CATALOGUES} == {each.name for each in spoken.iterdir()}


@pytest.mark.django_db(transaction=True)
@pytest.mark.long
def test_an_upgrade_keeps_what_was_counted():
    before, after = [("usage", "0017_window_locks")], [("usage", "0018_refusal_list")]
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes()
    executor.migrate(before)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO usage_refusalcount (minute, reason, count) VALUES (%s, 'revoked', 7)", [timezone.now()]
            )
        MigrationExecutor(connection).migrate(after)
        row = Refusal.objects.get()
        assert (row.count, row.reason, row.http_status, row.virtual_key_id) == (7, "revoked", 0, None)
        assert row.minute == row.refused_at
    finally:
        MigrationExecutor(connection).migrate(latest)
        Refusal.objects.all().delete()
