from __future__ import annotations

import pytest
from django.db import DatabaseError, connection
from django.db.models import Sum

from gateway_project.celery import app
from tests.support.ledger_rows import empty_ledger, make_cast, make_entry
from usage import ledger, tasks
from usage.models import Rollup


def test_every_scheduled_task_exists():
    app.loader.import_default_modules()
    scheduled = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert scheduled
    assert scheduled <= set(app.tasks)


@pytest.mark.django_db(transaction=True)
def test_the_hourly_task_may_run_twice():
    empty_ledger()
    make_entry(make_cast().alice)
    tasks.roll_up()
    tasks.roll_up()
    assert Rollup.objects.aggregate(calls=Sum("calls"))["calls"] == 1


@pytest.mark.django_db
def test_partitions_are_made_ahead_and_once():
    ledger.make_partitions(15)
    assert ledger.make_partitions(15) == 0
    tasks.make_partitions()


@pytest.mark.django_db
def test_the_sweeping_tasks_run_on_an_empty_database():
    tasks.reap()
    tasks.forget_refusals()


@pytest.mark.django_db
@pytest.mark.parametrize("change", ["UPDATE usage_ledgerentry SET cost = 0", "DELETE FROM usage_ledgerentry"])
def test_a_ledger_row_is_never_edited(change):
    empty_ledger()
    make_entry(make_cast().alice)
    with connection.cursor() as cursor, pytest.raises(DatabaseError, match="append-only"):
        cursor.execute(change)
