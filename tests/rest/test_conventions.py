"""What all resources of the REST API have in common: errors, unknown members, repetitions, versions, pages."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from administration.models import RestAnswer
from administration.rest import idempotency, parsing
from administration.rest.urls import RESOURCES
from keys.models import Customer, Team, VirtualKey
from tests.support.issued import make_provider_key
from tests.support.ledger_rows import START, make_cast, make_entry
from tests.support.rest import Program, error
from usage import request_ids
from usage.budgets import TopUp

ACME = {"name": "Acme"}


@pytest.mark.parametrize(
    ("body", "code", "fields"),
    [
        ({"name": "Acme", "colour": "red", "sise": 1}, "unknown_members", {"colour", "sise"}),
        ({"name": "Acme", "id": 7}, "invalid", {"id"}),
        ({}, "invalid", {"name"}),
        ({"name": 7}, "invalid", {"name"}),
        ({"name": "Acme", "fiscal_year_month": 13}, "invalid", {"fiscal_year_month"}),
        ({"name": "Acme", "time_zone": "Mars/Base"}, "invalid", {"time_zone"}),
        ({"name": "a\0b"}, "invalid", {"name"}),
        ([], "invalid", set()),
        (b"{", "invalid", set()),
        (b'{"name": NaN}', "invalid", set()),
        (b'{"name": "a", "name": "b"}', "invalid", set()),
        (b"[" * 100_000, "invalid", set()),
        (b'{"name": "\xff"}', "invalid", set()),
    ],
)
def test_a_wrong_body_is_a_400_that_names_its_members(program, body, code, fields):
    assert set(error(program.ask("POST", "customers", body), 400, code)["fields"]) == fields
    assert not Customer.objects.exists()


def test_unknown_members_within_members_are_named_by_their_path(program):
    provider_key = make_provider_key()
    customer = Customer.objects.create(**ACME)
    route = {"provider_key_id": provider_key.pk, "wait": 1}
    answer = program.ask("POST", "virtual-keys", {"name": "ci", "customer_id": customer.pk, "routes": [route]})
    assert set(error(answer, 400, "unknown_members")["fields"]) == {"routes[0].wait"}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("customers?nmae=Acme", "nmae"),
        ("customers?limit=0", "limit"),
        ("customers?limit=201", "limit"),
        ("customers?cursor=%00", "cursor"),
        ("customers?cursor=YWJj", "cursor"),
        ("teams?customer_id=x", "customer_id"),
        ("calls?since=2026-11-29", "since"),
        ("calls?since=0001-01-01T00:00:00%2B23:59", "since"),
        ("calls?status=odd", "status"),
        ("calls?cursor=MTI", "cursor"),
    ],
)
def test_a_wrong_parameter_is_a_400_that_names_it(program, path, field):
    assert set(error(program.ask("GET", path), 400, "invalid")["fields"]) == {field}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "customers/999", 404, "not_found"),
        ("GET", f"customers/{10**30}", 404, "not_found"),
        ("GET", "calls/req_bf_x", 404, "not_found"),
        ("GET", "nothing/at/all", 404, "not_found"),
        ("GET", "", 404, "not_found"),
        ("PUT", "customers/1", 405, "method_not_allowed"),
        ("DELETE", "calls", 405, "method_not_allowed"),
        ("OPTIONS", "customers", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_answered_in_the_same_shape(program, method, path, status, code):
    error(program.ask(method, path), status, code)


def test_a_body_that_is_not_json_is_a_415(program):
    answer = program.client.post(
        "/api/v1/customers",
        "name=Acme",
        "application/x-www-form-urlencoded",
        headers={"authorization": f"Bearer {program.plain}"},
    )
    error(answer, 415, "unsupported_media_type")


def test_no_answer_is_kept_by_caches(program):
    assert program.ask("GET", "customers")["cache-control"] == "no-store"


def test_amounts_are_strings_and_a_number_is_refused(program):
    customer = Customer.objects.create(**ACME)
    for amount in (1, 0.1, "1e3", "-1", "1" * 17, "0." + "1" * 13, " 1", "Infinity"):
        answer = program.ask("POST", "budgets", {"customer_id": customer.pk, "amount": amount})
        assert "amount" in error(answer, 400, "invalid")["fields"]
    assert program.post("budgets", {"customer_id": customer.pk, "amount": "0.100"})["amount"] == "0.1"


def test_a_time_needs_an_offset_and_is_shown_in_utc(program):
    make_provider_key()
    body = {"name": "ci", "customer_id": Customer.objects.create(**ACME).pk}
    answer = program.ask("POST", "virtual-keys", {**body, "expires_at": "2999-01-31T18:00:00"})
    assert "expires_at" in error(answer, 400, "invalid")["fields"]
    issued = program.post("virtual-keys", {**body, "expires_at": "2999-01-31T18:00:00+02:00"})
    assert issued["expires_at"] == "2999-01-31T16:00:00Z"


# Repetitions


def test_a_repetition_gets_the_first_answer_and_creates_nothing(program):
    first = program.ask("POST", "customers", ACME, idempotency_key="k1")
    again = program.ask("POST", "customers", ACME, idempotency_key="k1")
    assert (again.status_code, again.json()) == (201, first.json())
    assert again["idempotency-replayed"] == "true"
    assert (again["etag"], again["location"]) == (first["etag"], first["location"])
    assert Customer.objects.count() == 1


def test_another_request_with_the_same_key_is_a_422(program):
    program.post("customers", ACME, idempotency_key="k1")
    error(program.ask("POST", "customers", {"name": "Globex"}, idempotency_key="k1"), 422, "idempotency_key_reused")


def test_a_request_that_failed_can_be_repeated(program):
    error(program.ask("POST", "customers", {"name": ""}, idempotency_key="k1"), 400, "invalid")
    assert program.ask("POST", "customers", ACME, idempotency_key="k1").status_code == 201


def test_a_key_is_forgotten_after_a_day(program):
    program.post("customers", ACME, idempotency_key="k1")
    RestAnswer.objects.update(at=timezone.now() - timedelta(hours=25))
    error(program.ask("POST", "customers", ACME, idempotency_key="k1"), 400, "invalid")
    idempotency.forget_past()
    assert not RestAnswer.objects.exists()


def test_a_secret_is_never_shown_again(program):
    make_provider_key()
    body = {"name": "ci", "customer_id": Customer.objects.create(**ACME).pk}
    issued = program.post("virtual-keys", body, idempotency_key="k1")
    again = program.ask("POST", "virtual-keys", body, idempotency_key="k1")
    said = error(again, 409, "secret_already_shown")["message"]
    assert f"/api/v1/virtual-keys/{issued['id']}" in said
    assert issued["secret"] not in str(list(RestAnswer.objects.values()))
    assert VirtualKey.objects.count() == 1


def test_keys_of_two_tokens_are_different_keys(program):
    other = Program(program.user, name="another")
    program.post("customers", ACME, idempotency_key="k1")
    other.post("customers", {"name": "Globex"}, idempotency_key="k1")


@pytest.mark.django_db(transaction=True)
def test_a_request_whose_first_try_still_runs_is_a_409(boss):
    program = Program(boss)
    with connection.cursor() as cursor:
        text = f"rest {program.token.pk} k1"
        cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [text])
        answers = []

        def ask():
            answers.append(program.ask("POST", "customers", ACME, idempotency_key="k1"))
            connection.close()

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [text])
    error(answers[0], 409, "still_running")
    assert program.ask("POST", "customers", ACME, idempotency_key="k1").status_code == 201


def test_a_repeated_top_up_adds_once(program):
    budget = program.post("budgets", {"customer_id": Customer.objects.create(**ACME).pk, "period": "none"})
    body = {"budget_id": budget["id"], "amount": "10", "reason": "invoice 7"}
    for _ in range(3):
        program.post("top-ups", body, idempotency_key="invoice-7")
    assert TopUp.objects.count() == 1


# Versions


def test_an_update_names_the_version_that_it_changes(program):
    customer = program.post("customers", ACME)
    path = f"customers/{customer['id']}"
    error(program.ask("PATCH", path, {"language": "de"}), 428, "if_match_required")
    error(program.ask("PATCH", path, {"language": "de"}, if_match='"old"'), 412, "stale")
    etag = program.ask("GET", path)["etag"]
    changed = program.ask("PATCH", path, {"language": "de"}, if_match=f'"old", {etag}')
    assert changed.status_code == 200
    error(program.ask("PATCH", path, {"language": "fr"}, if_match=etag), 412, "stale")
    assert program.ask("PATCH", path, {"language": "fr"}, if_match=changed["etag"]).status_code == 200
    assert program.ask("PATCH", path, {"language": "it"}, if_match="*").status_code == 200


def test_a_removal_may_name_the_version(program):
    alias = program.post("aliases", {"name": "fast", "target": "claude-haiku-4-5"})
    error(program.ask("DELETE", f"aliases/{alias['id']}", if_match='"old"'), 412, "stale")
    etag = program.ask("GET", f"aliases/{alias['id']}")["etag"]
    assert program.ask("DELETE", f"aliases/{alias['id']}", if_match=etag).status_code == 204


# Pages


def test_pages_follow_each_other_without_a_gap_while_rows_are_added(program):
    Customer.objects.bulk_create(Customer(name=f"c{number}") for number in range(7))
    seen, cursor = [], ""
    while True:
        page = program.get(f"customers?limit=3{cursor}")
        assert len(page["data"]) <= 3
        seen += [row["name"] for row in page["data"]]
        Customer.objects.get_or_create(name="late")
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [*(f"c{number}" for number in range(7)), "late"]


def test_calls_are_read_newest_first_and_filtered(program):
    cast = make_cast()
    made = [make_entry(cast.alice, START + timedelta(minutes=minute)) for minute in range(3)]
    make_entry(cast.charlie, START, model="echo-1", requested_model="echo-1")
    ids = [request_ids.request_id(each) for each in reversed(made)]
    alices = f"calls?virtual_key_id={cast.alice.pk}"
    first = program.get(f"{alices}&limit=2")
    second = program.get(f"{alices}&limit=2&cursor={first['next_cursor']}")
    assert [row["id"] for row in first["data"] + second["data"]] == ids
    assert second["next_cursor"] is None
    shown = program.get(f"calls/{ids[0]}")
    assert (shown["cost"], shown["tokens"]["input_tokens"], shown["admitted_at"]) == (
        "0.0006",
        100,
        "2026-11-02T10:02:00Z",
    )
    since = program.get(f"{alices}&since=2026-11-02T10:01:00Z&until=2026-11-02T10:02:00Z")
    assert [row["id"] for row in since["data"]] == [ids[1]]
    assert [row["model"] for row in program.get("calls?model=echo-1")["data"]] == ["echo-1"]


@pytest.mark.parametrize("path", list(RESOURCES))
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(program, path):
    make_provider_key()
    customer = Customer.objects.create(**ACME)
    counts = []
    for number in range(3):
        Team.objects.create(customer=customer, name=f"t{number}")
        program.post("virtual-keys", {"name": f"k{number}", "customer_id": customer.pk, "budgets": [{"amount": "1"}]})
        with CaptureQueriesContext(connection) as queries:
            program.get(path)
        counts.append(len(queries))
    assert counts[1] == counts[2] <= 20


def test_a_member_that_occurs_twice_is_found_in_one_pass() -> None:
    """Looking each name up in the list of all names would compare four hundred million times."""
    names = [f'"m{number}":1' for number in range(20_000)]
    compared = 0

    class Counted(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    pairs = [(Counted(name), 1) for name in [*names, names[-1]]]
    with pytest.raises(ValueError, match="occurs twice"):
        parsing._members(list(pairs))
    assert compared < 10 * len(names)
