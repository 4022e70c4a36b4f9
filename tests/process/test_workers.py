"""The signs of life of Celery's processes."""

from __future__ import annotations

import time
import uuid
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from administration import overview
from gateway_project import celery
from keys.models import Customer
from usage import alert_delivery, outbox, tasks
from usage.models import Alert, AlertTarget, Budget, Delivery, Process, Worker
from usage.workers import ALIVE, FORGOTTEN, SENT_AT, Signs, WorkerKind

pytestmark = pytest.mark.django_db


def worker(kind=WorkerKind.WORKER, **changes):
    return Worker.objects.create(id=uuid.uuid4(), kind=kind, host="host", pid=1, **changes)


def front_page(client):
    client.force_login(User.objects.create_superuser("boss"))
    # Past the way to the first call.
    return client.get("/admin/")


def test_a_process_has_one_row_however_often_it_gives_a_sign():
    signs = Signs(WorkerKind.WORKER)
    signs.give()
    started = Worker.objects.get().started_at
    signs.note_task({SENT_AT: time.time() - 3})
    signs.note_task({SENT_AT: time.time() - 1})
    signs.note_task({})
    signs.give()
    row = Worker.objects.get()
    assert (row.kind, row.started_at, row.alive) == ("worker", started, True)
    assert row.task_at is not None
    # The longest wait since the sign before.
    longest = row.waited_ms or 0
    assert longest >= 3000
    signs.note_task({SENT_AT: time.time() + 3600})
    signs.give()
    assert Worker.objects.get().waited_ms == 0


def test_a_process_that_is_silent_counts_as_dead_and_is_forgotten_after_a_day():
    silent = worker(beat_at=timezone.now() - ALIVE)
    worker(beat_at=timezone.now() - FORGOTTEN)
    assert not silent.alive
    Signs(WorkerKind.BEAT).give()
    assert set(Worker.objects.values_list("kind", flat=True)) == {"worker", "beat"}
    assert Worker.objects.count() == 2


@pytest.mark.parametrize("wrong", [timedelta(days=-2), timedelta(days=2)])
def test_whether_a_process_lives_is_a_matter_of_the_databases_clock_only(monkeypatch, wrong):
    boss, now = User.objects.create_superuser("boss"), timezone.now()
    signs = Signs(WorkerKind.WORKER)
    signs.give()
    silent = worker(beat_at=now - ALIVE)
    web = [
        Process.objects.create(id=uuid.uuid4(), host="host", pid=1, heartbeat_at=now - since)
        for since in (timedelta(0), ALIVE)
    ]
    monkeypatch.setattr(timezone, "now", lambda: now + wrong)
    assert Worker.objects.get(id=signs.id).alive
    assert not silent.alive
    signs.give()
    found = overview.workers(boss)
    assert (found.workers, found.dead) == (1, 1)
    assert overview.processes(boss, timedelta(minutes=1)) == {"alive": 1, "dead": len(web) - 1}


@pytest.mark.parametrize("wrong", [timedelta(hours=-1), timedelta(hours=1)])
def test_a_wrong_clock_of_a_machine_makes_no_alarm_and_hides_none(client, monkeypatch, wrong):
    class Wrong(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + wrong

    right = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: right() + wrong)
    monkeypatch.setattr("usage.workers.datetime", Wrong, raising=False)
    signs = Signs(WorkerKind.WORKER)
    signs.note_task()
    signs.give()
    # The worker has planned the next attempt.
    budget = Budget.objects.create(customer=Customer.objects.create(name="Acme"))
    now = right()
    alert = Alert.objects.create(budget=budget, start=now, threshold=50, spent=5, amount=10, at=now)
    target = AlertTarget.objects.create(channel="email", address="ops@example.com")
    alert_delivery.address(alert, AlertTarget.objects.filter(pk=target.pk))
    context = front_page(client).context
    assert context["workers"].task_at >= context["tasks_stuck"]
    assert abs(context["workers"].task_at - right()) < timedelta(minutes=30)
    assert not context["queue_stuck"]
    claimed = outbox.claim(Delivery)
    assert claimed is not None, "it is due now"
    assert abs(claimed.next_at - right()) < timedelta(minutes=30)
    long_ago = right() - timedelta(minutes=10)
    Worker.objects.update(task_at=long_ago)
    Delivery.objects.update(next_at=long_ago)
    context = client.get("/admin/").context
    assert context["workers"].task_at < context["tasks_stuck"]
    assert context["queue_stuck"]


def test_a_process_that_has_taken_the_place_of_a_dead_one_forgets_it():
    before = Signs(WorkerKind.WORKER)
    before.give()
    Worker.objects.update(beat_at=timezone.now() - ALIVE)
    Signs(WorkerKind.BEAT).give()
    assert Worker.objects.filter(id=before.id).exists()
    Signs(WorkerKind.WORKER).give()
    assert not Worker.objects.filter(id=before.id).exists()
    assert Worker.objects.count() == 2


def test_a_process_that_stops_takes_its_row_back():
    signs = Signs(WorkerKind.WORKER)
    signs.give()
    signs.stop()
    assert not Worker.objects.exists()


def test_a_task_says_when_it_was_sent_and_the_worker_how_long_it_waited(monkeypatch):
    signs = Signs(WorkerKind.WORKER)
    monkeypatch.setattr(celery, "_signs", [signs])
    headers: dict[str, float] = {}
    before = time.time()
    celery.note_sending(headers=headers)
    assert before <= headers[SENT_AT] <= time.time()
    monkeypatch.setattr(tasks.reap.request, SENT_AT, time.time() - 5, raising=False)
    celery.note_beginning(task=tasks.reap)
    assert (signs.waited_ms or 0) >= 5000


def test_the_overview_says_whether_workers_live_and_tasks_begin(client):
    page = front_page(client)
    workers = page.context["workers"]
    assert workers.stands == "no worker runs"
    now = timezone.now()
    worker(task_at=now, waited_ms=120)
    assert client.get("/admin/").context["workers"].stands == "no beat runs, so no periodic task is sent"
    worker(WorkerKind.BEAT)
    worker(beat_at=now - timedelta(minutes=10))
    workers = client.get("/admin/").context["workers"]
    assert (workers.stands, workers.workers, workers.beats, workers.dead) == ("", 1, 1, 1)
    assert (workers.waited_ms, workers.task_at) == (120, now)


def test_the_list_of_workers_shows_which_are_alive(client):
    worker(waited_ms=120)
    worker(beat_at=timezone.now() - ALIVE)
    client.force_login(User.objects.create_superuser("boss"))
    page = client.get("/admin/usage/worker/").content.decode()
    assert 'class="state active"' in page
    assert 'class="state unreachable"' in page
