"""What the task does for message batches that their owners, or a crashed process, left alone."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from django.utils import timezone

from keys import issuing
from messages_api.models import Batch
from messages_api.stored import batch_upkeep
from tests.stored.test_batches import BATCHES, EACH, NAME, batch, create, get, held, lines
from tests.support.batch_provider import BatchProvider, now
from tests.support.fake_provider import End, whole
from tests.support.gateway import CLIENT, credentials, post, refused, rows, wait_until
from usage import ledger
from usage.models import LedgerEntry, Process, Writer


@pytest.fixture
def provider(upstream):
    upstream.answer = provider = BatchProvider()
    return provider


def later(**fields):
    """Move the only batch into the past, so that everything about it is due."""
    Batch.objects.update(asked_at=timezone.now() - timedelta(hours=1), **fields)


def in_doubt(web, upstream, key, provider, made=True, custom_ids=("a", "b")):
    """A batch of which the gateway heard no end; the provider has made it, or hasn't."""

    def answer(seen):
        if made:
            provider.create(seen)
        return [End.CLOSE]

    known = Batch.objects.filter(state="creating").count()
    upstream.answer = answer
    refused(create(web, key, *custom_ids), 502, "api_error")
    wait_until(lambda: Batch.objects.filter(process=None, state="creating").count() == known + 1)
    upstream.answer = provider


def test_a_running_batch_is_asked_for_so_that_lists_are_up_to_date(web, upstream, alice, provider):
    create(web, alice.key)
    provider.end()
    asked = len(upstream.seen)
    batch_upkeep.tend()
    assert len(upstream.seen) == asked, "it was asked for a moment ago"
    later()
    batch_upkeep.tend()
    assert get(web, alice.key).json()["data"][0]["processing_status"] == "ended"
    assert upstream.last.values("x-api-key") == ["sk-ant-the-providers-own-1234"]
    assert held().exists(), "its owner has a few minutes to read the results"


def test_unread_results_are_settled_by_the_task_once(web, alice, provider):
    create(web, alice.key)
    provider.end()
    provider.batches[NAME]["ended_at"] = now(minutes=-30)
    later()
    batch_upkeep.tend()
    assert [row.cost for row in lines()] == [EACH, EACH]
    wait_until(lambda: not held().exists())
    assert (Batch.objects.get().state, Batch.objects.get().settled_requests) == ("settled", 2)
    later()
    batch_upkeep.tend()
    assert provider.read == 1
    assert get(web, alice.key, f"/{NAME}/results").status_code == 200
    assert len(lines()) == 2


def test_a_batch_that_fails_does_not_keep_the_others_waiting(web, alice, provider, monkeypatch, caplog):
    for _ in range(3):
        create(web, alice.key)
    later()
    first = Batch.objects.order_by("asked_at", "id").first()
    ask = batch_upkeep.ask

    def ask_or_fail(batch):
        if batch == first:
            raise ValueError("a line of a customer's results")
        ask(batch)

    monkeypatch.setattr(batch_upkeep, "ask", ask_or_fail)
    for name in provider.batches:
        provider.end(name)
    batch_upkeep.tend()
    assert Batch.objects.filter(ended_at=None).count() == 1
    assert "a customer's results" not in caplog.text


def test_a_batch_that_was_settled_early_is_listed_as_ended(web, alice, provider):
    create(web, alice.key)
    provider.end()
    get(web, alice.key, f"/{NAME}/results")
    later()
    batch_upkeep.tend()
    assert get(web, alice.key).json()["data"][0]["processing_status"] == "ended"


def test_results_that_end_too_early_are_read_again(web, alice, provider):
    create(web, alice.key)
    provider.end()
    provider.batches[NAME]["ended_at"] = now(minutes=-30)
    provider.instead[NAME] = list(whole(200, provider.line("a")))
    later()
    batch_upkeep.tend()
    assert [row.cost for row in lines()] == [EACH]
    assert held().exists()
    del provider.instead[NAME]
    later()
    batch_upkeep.tend()
    assert [row.cost for row in lines()] == [EACH, EACH]
    wait_until(lambda: not held().exists())


def test_a_provider_that_does_not_answer_changes_nothing(web, upstream, alice, provider):
    create(web, alice.key)
    upstream.answer = [End.CLOSE]
    later()
    batch_upkeep.tend()
    assert Batch.objects.get().state == "running"
    assert held().exists()


def test_a_batch_that_was_made_and_never_heard_of_is_found_and_belongs_to_who_made_it(web, upstream, alice, provider):
    in_doubt(web, upstream, alice.key, provider)
    batch_upkeep.tend()
    found = Batch.objects.get()
    assert (found.state, found.provider_batch_id) == ("running", NAME)
    assert [each["id"] for each in get(web, alice.key).json()["data"]] == [NAME]
    provider.end()
    get(web, alice.key, f"/{NAME}/results")
    assert [row.cost for row in lines()] == [EACH, EACH]
    assert LedgerEntry.objects.get(id=found.id).status == "completed"
    wait_until(lambda: not held().exists())


def test_a_batch_that_was_never_created_is_given_up_and_costs_nothing(web, upstream, alice, provider):
    in_doubt(web, upstream, alice.key, provider, made=False)
    batch_upkeep.tend()
    assert held().exists(), "the provider may be slow"
    Batch.objects.update(created_at=timezone.now() - timedelta(minutes=20))
    batch_upkeep.tend()
    assert not Batch.objects.exists()
    [row] = rows(1)
    assert (row.status, row.error_type) == ("failed", "never_made")
    assert not row.cost


def test_a_batch_of_another_size_is_not_taken_for_it(web, upstream, alice, provider):
    create(web, alice.key, "x")
    in_doubt(web, upstream, alice.key, provider, made=False)
    elsewhere = provider.create(type("", (), {"body": json.dumps(batch("a", "b", "c")).encode()}))
    assert elsewhere
    batch_upkeep.tend()
    assert Batch.objects.filter(state="creating").count() == 1
    assert [each["id"] for each in get(web, alice.key).json()["data"]] == [NAME]


def test_two_similar_batches_are_distinguished_by_their_results(web, upstream, alice, provider):
    in_doubt(web, upstream, alice.key, provider, custom_ids=("a", "b"))
    in_doubt(web, upstream, alice.key, provider, custom_ids=("c", "d"))
    batch_upkeep.tend()
    assert Batch.objects.filter(state="creating").count() == 2, "it is still unknown which is which"
    for name in provider.batches:
        provider.end(name)
    batch_upkeep.tend()
    first, second = Batch.objects.order_by("id")
    assert (first.provider_batch_id, second.provider_batch_id) == ("msgbatch_0001", "msgbatch_0002")


def test_a_process_that_dies_while_it_makes_one_leaves_it_to_be_found(start_web, upstream, alice, provider):
    web = start_web(log_level="WARNING")

    def answer(seen):
        provider.create(seen)
        return [threading.Event()]

    upstream.answer = answer
    with ThreadPoolExecutor(1) as pool:
        caller = pool.submit(create, web, alice.key)
        upstream.wait_for(1)
        web.kill()
        assert isinstance(caller.exception(10), httpx.TransportError)
    web.start()
    upstream.answer = provider
    batch_upkeep.tend()
    orphan = Batch.objects.get()
    assert orphan.state == "creating"
    assert orphan.process is not None, "it may be alive"
    # As the reaper does it once the lease is over.
    Process.objects.filter(id=orphan.process).delete()
    Writer.objects.filter(process=orphan.process).delete()
    batch_upkeep.tend()
    assert [each["id"] for each in get(web, alice.key).json()["data"]] == [NAME]
    assert held().get().ceiling == orphan.ceiling
    assert LedgerEntry.objects.get(endpoint="batches.create").id == orphan.id


def test_a_batch_whose_hold_has_expired_is_marked_as_expired(web, alice, provider):
    create(web, alice.key)
    held().update(expires_at=timezone.now() - timedelta(seconds=1))
    Batch.objects.update(created_at=timezone.now() - timedelta(days=31))
    ledger.expire()
    batch_upkeep.tend()
    assert Batch.objects.get().state == "expired"
    assert LedgerEntry.objects.get(status="interrupted").cost == Batch.objects.get().ceiling


def test_a_stranger_with_the_providers_own_key_sees_the_providers_list(start_web, upstream, alice, provider):
    issuing.ensure_passthrough_key("Acme")
    # A process of its own: another one remembers the hidden key of another test.
    web = start_web(passthrough_customer="Acme", passthrough_base_url=upstream.url, log_level="WARNING")
    own = "sk-ant-somebodys-own-key"
    assert post(web, own, batch("a"), BATCHES).status_code == 200
    assert upstream.last.values("x-api-key") == [own]
    [listed] = get(web, own).json()["data"]
    assert listed["id"] == NAME
    provider.end()
    [listed] = get(web, own).json()["data"]
    assert listed["results_url"] == f"{web.url}{BATCHES}/{NAME}/results"
    answer = CLIENT.get(listed["results_url"], headers=credentials(own))
    assert answer.content == provider.line("a")
    assert [row.cost for row in lines()] == [EACH]
    entries = LedgerEntry.objects.count()
    upstream.answer = whole(401, b'{"type":"error"}')
    assert post(web, own, batch("a"), BATCHES).status_code == 401
    wait_until(lambda: not Batch.objects.filter(state="creating").exists() and not held().exists())
    assert LedgerEntry.objects.count() == entries
