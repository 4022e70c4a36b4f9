"""What budgets keep held for interrupted calls: listed and given back, in the admin and by command."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client

from tests.admin.test_budget_pages import page, said
from tests.keys.test_commands import refusal, run
from tests.support.asked_arbiter import Arbiter
from tests.support.issued import make_key
from tests.support.owner import own_secrets as own_secrets
from usage.models import Budget, LedgerEntry, Retained, Window
from usage.request_ids import request_id

pytestmark = pytest.mark.django_db


@pytest.fixture
def lost():
    """Two calls of Alice's whose process died, with what her team's budgets keep of them."""
    key = make_key()[0]
    Budget.objects.create(team=key.team, amount=1)
    Budget.objects.create(team=key.team, amount=5000, unit="tokens", period="day")
    connection.ensure_connection()
    arbiter = Arbiter(connection.connection)
    arbiter.start()
    calls = [arbiter.admit(key, "0.25")[0] for _ in range(2)]
    arbiter.link.execute("SELECT usage_interrupt(%s::uuid[], ARRAY[now(), now()], 100)", [[call.id for call in calls]])
    assert Retained.objects.count() == 2
    return SimpleNamespace(
        calls=[call.id for call in calls],
        names=[request_id(call.id) for call in calls],
        estimate=LedgerEntry.objects.values_list("cost", flat=True)[0],
    )


def held():
    return [window.held for window in Window.objects.order_by("pk")]


@pytest.fixture
def admin():
    client = Client()
    client.force_login(User.objects.create_superuser("ops", password=None))
    return client


def give_back(client, calls, **more):
    return client.post(page("retained", "changelist"), {"action": "give_back", "_selected_action": calls} | more)


def test_an_admin_sees_what_is_retained_of_which_call(lost, admin):
    text = said(admin.get(page("retained", "changelist")))
    for name in lost.names:
        assert name in text
    kept = Decimal("0.25") - lost.estimate
    assert f"${kept.normalize():f} of the budget per month of team Acme / Research" in text
    assert " tokens of the budget per day of team Acme / Research" in text
    assert "alice of Acme / Research claude-opus-5-5" in text
    assert f"${lost.estimate.normalize():f}" in text
    assert (
        said(admin.get(page("retained", "change", lost.calls[0]))).count("budget per month of team Acme / Research")
        == 1
    )


def test_giving_back_asks_first(lost, admin):
    before = held()
    text = said(give_back(admin, lost.calls[0]))
    assert lost.names[0] in text
    assert "of the budget per month of team Acme / Research" in text
    assert (Retained.objects.count(), held()) == (2, before)
    text = said(admin.get(give_back(admin, lost.calls[0], confirmed="yes").url))
    assert f"Given back: {lost.names[0]}." in text
    assert Retained.objects.get().pk == lost.calls[1]
    assert held() == [amount / 2 for amount in before]
    entry = LogEntry.objects.get()
    assert entry.change_message.startswith("Given back: $0.2")
    assert "Given back: nothing." in said(admin.get(give_back(admin, lost.calls[0], confirmed="yes").url))


def test_a_person_who_may_only_view_gives_nothing_back(lost):
    bob = User.objects.create(username="bob", is_staff=True)
    bob.user_permissions.set(Permission.objects.filter(codename="view_retained"))
    client = Client()
    client.force_login(bob)
    assert lost.names[0] in said(client.get(page("retained", "changelist")))
    give_back(client, lost.calls[0], confirmed="yes")
    assert Retained.objects.count() == 2
    bob.user_permissions.add(Permission.objects.get(codename="change_retained"))
    give_back(client, lost.calls[0], confirmed="yes")
    assert Retained.objects.count() == 1


def test_the_command_lists_and_gives_back(lost):
    out, _ = run("give_back", "--list")
    assert {line.split(" since ")[0] for line in out.splitlines()} == set(lost.names)
    assert out.count("of the budget per month of team Acme / Research") == 2
    assert run("give_back", "--list", "--older-than", "1h")[0] == ""
    assert Retained.objects.count() == 2
    out, _ = run("give_back", lost.names[1])
    assert out.startswith(f"{lost.names[1]} $0.2")
    assert Retained.objects.get().pk == lost.calls[0]
    out, err = run("give_back", "--older-than", "1h")
    assert (out, err) == ("", "Nothing was given back: no budget keeps anything for these calls.\n")
    out, _ = run("give_back", "--older-than", "0")
    assert out.startswith(lost.names[0])
    assert set(held()) == {0}


def test_a_budget_that_was_deleted_gets_it_back_too(lost):
    for budget in Budget.objects.all():
        budget.delete_softly()
    assert run("give_back", "--older-than", "0")[0].count("team Acme / Research") == 4
    assert set(held()) == {0}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name the calls, or use --older-than AGE; --list shows what is kept"),
        (["req_bf_xyz"], "“req_bf_xyz” isn't a request id"),
        (["--older-than", "1 hour"], "“1 hour” is not a duration"),
        (["req_bf_0", "--older-than", "1h"], "but not both"),
        (["{known}", "req_bf_019ab000000070008000000000000000"], "no budget retains anything for “req_bf_019ab0"),
    ],
)
def test_a_call_without_a_retained_amount_changes_nothing(lost, arguments, complaint):
    assert complaint in refusal("give_back", *(text.format(known=lost.names[0]) for text in arguments))
    assert Retained.objects.count() == 2
