"""Pages roll up what they show, if that was not done a moment ago."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.db.models import Sum

from keys import connection as keys_connection
from tests.support.ledger_rows import empty_ledger, make_cast, make_entry
from usage import rollups
from usage.models import Rollup

# Not for a server that others use: their open transactions hold roll-ups back, as they should.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cast():
    empty_ledger()
    return make_cast()


def total():
    return Rollup.objects.aggregate(total=Sum("calls"))["total"] or 0


def test_it_freshens_only_what_is_old(cast):
    make_entry(cast.alice)
    assert rollups.freshen() is not None
    assert total() == 1
    make_entry(cast.alice)
    rollups.freshen()
    assert total() == 1
    rollups.freshen(timedelta(0))
    assert total() == 2


def test_the_first_calls_are_rolled_up_at_once(cast):
    assert rollups.freshen() is not None
    make_entry(cast.alice)
    rollups.freshen()
    assert total() == 1


def test_it_does_not_wait_for_a_run_that_is_under_way(cast):
    make_entry(cast.alice)
    with psycopg.connect(**keys_connection.parameters()) as other:
        other.execute("SELECT FROM usage_rollupstate FOR UPDATE")
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 100")
        assert rollups.freshen() is None
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
    assert total() == 0
