"""Two changes at the same moment can't pass a ceiling together that neither may pass alone."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from administration.role_names import Role
from administration.roles import ceilings, giving
from keys.errors import Unusable
from tests.support.issued import make_key
from usage.models import Budget, KeyRules

pytestmark = pytest.mark.django_db(transaction=True)

# Not pg_stat_activity, of which a transaction sees one snapshot.
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


def waits():
    with connection.cursor() as cursor:
        cursor.execute(WAITING)
        return bool(cursor.fetchone()[0])


def test_two_people_can_not_each_delete_one_of_two_budgets_that_keep_a_ceiling(settings, tmp_path):
    settings.VAR_DIR = tmp_path
    key, _ = make_key()
    KeyRules.objects.create(team=key.team, most_budget=20)
    user = User.objects.create_user("admin", is_staff=True)
    giving.give(None, user, Role.TEAM_ADMIN, team=key.team)
    first, second = (Budget.objects.create(virtual_key=key, amount=amount) for amount in (10, 20))
    faults = []

    def delete(budget):
        budget.delete_softly()
        ceilings.hold(user, budget)

    def delete_second():
        try:
            with transaction.atomic():
                delete(second)
        except Unusable as error:
            faults.append(str(error))
        finally:
            connection.close()

    other = threading.Thread(target=delete_second)
    with transaction.atomic():
        delete(first)
        other.start()
        while other.is_alive() and not waits():
            other.join(0.05)
    other.join()
    assert len(faults) == 1, "both budgets are deleted"
    assert [budget.pk for budget in key.budgets.filter(active=True)] == [second.pk]
