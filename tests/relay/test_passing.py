"""ARBITER_AWAY=pass: calls that go out while the database is unavailable, and are admitted when it is back."""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import msgspec
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from keys import issuing
from keys.models import Credential, ModelAlias
from tests.relay.test_outages import database_away
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import (
    CLIENT,
    ask,
    credentials,
    events,
    free_calls,
    issue,
    message,
    post,
    refused,
    rows,
    started,
    wait_until,
)
from tests.support.started_writer import admission
from usage import spool
from usage.arbitration import Passed
from usage.models import Adjustment, Budget, Hold, LedgerEntry, Limit, Window
from usage.verification import verify

pytestmark = pytest.mark.either_server

BEGINS = "the database is unavailable: calls with known credentials pass"
ENDS = "calls that had passed are admitted"


@pytest.fixture
def web(apart):
    with started(admission_seconds=0.5, arbiter_away="pass") as web:
        yield web


@pytest.fixture
def alice(apart, upstream):
    return issue(upstream)


def spooled(web):
    return sorted(path.name for path in Path(web.environment["SPOOL_DIR"]).glob("*"))


def let_in(web, upstream, caller):
    """A call that the arbiter admits, so that this process knows the credential."""
    upstream.answer = whole(200, message(input_tokens=11, output_tokens=7))
    assert post(web, caller.key).status_code == 200
    rows(1)


def afterwards(entries):
    return [entry for entry in entries if entry.client_labels.get("admitted") == "afterwards"]


def test_known_callers_pass_while_the_database_is_away_and_each_call_has_its_row(web, upstream, alice, apart):
    budgets = [
        Budget.objects.create(team=alice.team, amount=1),
        Budget.objects.create(virtual_key=alice.virtual_key, amount=10**6, unit="tokens", period="day"),
    ]
    Limit.objects.create(team=alice.team, kind="rpm", rate=60)
    let_in(web, upstream, alice)
    began = timezone.now()
    with database_away(apart):
        for number in range(12):
            upstream.answer = pieces(200, events("Hi")) if number % 2 else whole(200, message(output_tokens=7))
            answer = post(web, alice.key, ask(stream=bool(number % 2)))
            assert answer.status_code == 200
            assert answer.headers["x-bf-request-id"].startswith("req_bf_")
        assert len(spooled(web)) == 1
        back = timezone.now()
    entries = rows(13)
    late = afterwards(entries)
    assert len(late) == len({entry.id for entry in late}) == 12
    assert {entry.status for entry in late} == {"completed"}
    assert all(began < entry.admitted_at < back and entry.cost > 0 and not entry.estimated for entry in late)
    assert len(upstream.seen) == 13
    wait_until(lambda: not Hold.objects.exists())
    spent, counted = (Window.objects.get(budget=budget) for budget in budgets)
    assert (spent.spent, spent.held) == (sum((entry.cost for entry in entries), Decimal(0)), Decimal(0))
    assert int(counted.spent) == sum(entry.input_tokens + entry.output_tokens for entry in entries)
    assert counted.held == 0
    assert not list(verify())
    assert post(web, alice.key).status_code == 200
    wait_until(lambda: not spooled(web))
    log = web.log.read_text()
    assert (log.count(BEGINS), log.count(ENDS)) == (1, 1)


def test_budgets_by_model_are_charged_for_an_alias_that_passed(web, upstream, alice, apart):
    ModelAlias.objects.create(name="fast", target="anthropic/claude-haiku-4-5")
    named = Budget.objects.create(team=alice.team, amount=1, model_patterns=["claude-haiku-*"])
    other = Budget.objects.create(team=alice.team, amount=1, model_patterns=["claude-opus-*"])
    let_in(web, upstream, alice)
    with database_away(apart):
        assert post(web, alice.key, ask(model="fast")).status_code == 200
    (late,) = afterwards(rows(2))
    wait_until(lambda: not Hold.objects.exists())
    assert Window.objects.get(budget=named).spent == late.cost
    assert Window.objects.get(budget=other).spent == sum(entry.cost for entry in rows(2)) - late.cost
    assert not list(verify())


def test_a_stream_that_passed_and_ends_after_the_database_is_back_has_its_row(web, upstream, alice, apart):
    let_in(web, upstream, alice)
    more = threading.Event()
    parts = events("one", "two")
    upstream.answer = [*pieces(200, parts[:3])[:-1], more, *pieces(200, parts[3:])[1:]]
    with contextlib.ExitStack() as stack:
        with database_away(apart):
            answer = stack.enter_context(
                CLIENT.stream("POST", web.url + "/v1/messages", json=ask(stream=True), headers=credentials(alice.key))
            )
            chunks = answer.iter_raw()
            got = next(chunks)
        wait_until(lambda: Hold.objects.filter(client_labels__admitted="afterwards").exists(), seconds=10)
        more.set()
        got += b"".join(chunks)
    assert got == b"".join(parts)
    (entry,) = afterwards(rows(2))
    assert (entry.status, entry.output_tokens, entry.estimated) == ("completed", 7, False)


def test_a_process_that_is_killed_loses_no_call_that_passed(apart, upstream, alice):
    with started(admission_seconds=0.5, arbiter_away="pass") as web:
        Budget.objects.create(team=alice.team, amount=1)
        let_in(web, upstream, alice)
        with database_away(apart):
            assert post(web, alice.key).status_code == 200
            upstream.answer = [*pieces(200, events("one")[:3])[:-1], threading.Event()]
            headers = credentials(alice.key)
            with CLIENT.stream("POST", web.url + "/v1/messages", json=ask(stream=True), headers=headers) as answer:
                chunks = answer.iter_raw()
                next(chunks)
                web.kill()
                with contextlib.suppress(httpx.HTTPError):
                    list(chunks)
            assert len(spooled(web)) == 1
        for _ in range(2):
            web.start()
            late = afterwards(rows(3))
            assert [entry.status for entry in late] == ["interrupted", "interrupted"]
            assert all(entry.estimated and entry.cost > 0 for entry in late)
            assert not spooled(web)
            web.kill()
        assert not Hold.objects.filter(client_labels__admitted="afterwards").exists()
        assert not list(verify())


def test_a_process_that_is_stopped_meanwhile_leaves_exact_rows_to_the_next(apart, upstream, alice):
    with started(admission_seconds=0.5, arbiter_away="pass", stop_grace_seconds=1) as web:
        let_in(web, upstream, alice)
        with database_away(apart):
            for _ in range(3):
                assert post(web, alice.key).status_code == 200
            web.signal(15)
            assert len(spooled(web)) == 2
        web.start()
        late = afterwards(rows(4))
        assert {(entry.status, entry.output_tokens, entry.estimated) for entry in late} == {("completed", 7, False)}
        assert not spooled(web)
        assert not Adjustment.objects.exists()
        assert not list(verify())


def test_what_a_living_process_has_let_pass_is_not_replayed_under_it(apart, settings, tmp_path, alice):
    settings.SPOOL_DIR = tmp_path
    credential = Credential.objects.select_related("virtual_key").get(virtual_key=alice.virtual_key)
    journal = spool.Journal()
    journal.write(msgspec.json.encode(Passed(admission(credential), datetime.now(UTC))))
    assert spool.replay() == {}
    assert not Hold.objects.exists()
    journal.close()  # as the kernel does when it dies
    assert spool.replay() == {"interrupted": 1}
    assert LedgerEntry.objects.get().status == "interrupted"
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_can_not_be_read_is_a_dead_letter_and_keeps_no_other_back(apart, settings, tmp_path, alice):
    settings.SPOOL_DIR = tmp_path
    credential = Credential.objects.select_related("virtual_key").get(virtual_key=alice.virtual_key)
    good = msgspec.json.encode(Passed(admission(credential), datetime.now(UTC)))
    (tmp_path / "1-passed.jsonl").write_bytes(b'{"passed": nonsense\n{"passed":{}}\n' + good + b"\n" + good[:90])
    assert spool.replay() == {"interrupted": 1, "unreadable": 3}
    assert LedgerEntry.objects.count() == 1
    assert len((tmp_path / spool.DEAD_LETTERS).read_text().splitlines()) == 3


def test_a_credential_that_was_not_admitted_before_gets_a_503(web, upstream, alice, apart):
    bob, carol, dave = (issue(upstream, name) for name in ("bob", "carol", "dave"))
    for caller in (alice, bob, carol, dave):
        upstream.answer = whole(200, message())
        assert post(web, caller.key).status_code == 200
    issuing.revoke(bob.virtual_key)
    refused(post(web, bob.key), 401, "authentication_error")
    carol.virtual_key.active = False
    carol.virtual_key.save()
    refused(post(web, carol.key), 403, "permission_error")
    dave.virtual_key.expires_at = timezone.now() + timedelta(seconds=2)
    dave.virtual_key.save()
    assert post(web, dave.key).status_code == 200
    stranger = issue(upstream, "eve")
    made = len(upstream.seen)
    rows(made)
    time.sleep(2)
    with database_away(apart):
        for caller in (bob, carol, dave, stranger):
            answer = post(web, caller.key)
            assert "database" in refused(answer, 503, "api_error")
            assert answer.headers["retry-after"]
        assert len(upstream.seen) == made
        assert not spooled(web)
        assert post(web, alice.key).status_code == 200


def test_a_call_that_can_not_be_kept_is_not_made(web, upstream, alice, apart):
    let_in(web, upstream, alice)
    folder = Path(web.environment["SPOOL_DIR"])
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
    folder.write_text("no folder")
    with database_away(apart):
        assert "can't be stored" in refused(post(web, alice.key), 503, "api_error")
    assert len(upstream.seen) == 1


def test_what_lives_at_a_provider_does_not_pass(web, upstream, alice, apart):
    let_in(web, upstream, alice)
    with database_away(apart):
        answer = CLIENT.get(f"{web.url}/v1/messages/batches", headers=credentials(alice.key))
        refused(answer, 503, "api_error")
        refused(CLIENT.get(f"{web.url}/v1/quota", headers=credentials(alice.key)), 503, "api_error")
        upstream.answer = whole(200, b'{"input_tokens":3}')
        body = {"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "x"}]}
        assert post(web, alice.key, body, "/v1/messages/count_tokens").status_code == 200
    assert free_calls(alice.virtual_key, 1) == {("count_tokens", "completed"): 1}
    rows(1)


@pytest.mark.django_db
@pytest.mark.parametrize(("choice", "said"), [("refuse", "ARBITER_AWAY=refuse"), ("pass", "ARBITER_AWAY=pass")])
def test_the_admin_shows_what_was_chosen(settings, monkeypatch, choice, said):
    monkeypatch.setattr(settings.CONFIGURATION, "arbiter_away", choice)
    client = Client()
    client.force_login(User.objects.create_superuser("ops", password=None))
    assert said in client.get(reverse("admin:keys_gateway_change", args=[1])).content.decode()
