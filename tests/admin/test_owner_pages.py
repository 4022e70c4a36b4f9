"""The pages of one virtual key, team and customer."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from keys.models import Credential, Customer, Team, VirtualKey, VirtualKeyRoute
from tests.support.ledger_rows import empty_ledger, make_cast, make_entry
from usage import request_ids, rollups
from usage.models import Budget, Limit, OwnerDay, Refusal
from usage.owner_days import usage_of

# Roll-ups add what other transactions have committed.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cast():
    empty_ledger()
    return make_cast()


@pytest.fixture
def admin(client):
    client.force_login(User.objects.create_superuser("admin"))
    return client


def shown(client, kind, pk, **query):
    page = client.get(f"/admin/{kind}/{pk}/", query)
    assert page.status_code == 200
    return page.content.decode()


def test_the_page_of_a_key_shows_who_it_is_and_what_it_did(cast, admin):
    alice = cast.alice
    VirtualKeyRoute.objects.create(virtual_key=alice, provider_key=cast.provider_key)
    Credential.objects.create(
        kind="virtual_key", virtual_key=alice, digest=b"1" * 32, pepper="0", first="sk-bf-abc", last="9xyz"
    )
    Budget.objects.create(virtual_key=alice, amount=50)
    Limit.objects.create(team=alice.team, kind="rpm", rate=60)
    call = make_entry(alice, at=timezone.now(), cost="1.25")
    make_entry(cast.bob, at=timezone.now(), cost="7.77")
    Refusal.objects.create(
        id=request_ids.new_id(),
        refused_at=timezone.now(),
        http_status=429,
        error_type="x",
        reason="limit",
        message="Too fast, Alice.",
        endpoint="messages",
        virtual_key=alice,
    )
    rollups.roll_up()
    page = shown(admin, "key", alice.pk)
    for text in ("sk-bf-abc…9xyz", "Research", "$50 a month", "60 requests a minute", "$1.25", "Too fast, Alice."):
        assert text in page
    assert request_ids.request_id(call) in page
    assert "$7.77" not in page


def test_the_pages_of_a_team_and_a_customer_add_up_their_keys(cast, admin):
    now = timezone.now()
    make_entry(cast.alice, at=now, cost="1.25")
    make_entry(cast.bob, at=now, cost="2.50", model="claude-haiku-5-5")
    make_entry(cast.charlie, at=now, cost="9")
    rollups.roll_up()
    for kind, pk in (("team", cast.alice.team_id), ("customer", cast.alice.customer_id)):
        page = shown(admin, kind, pk)
        assert "$3.75 in 2 calls" in page
        assert "claude-haiku-5-5" in page
        assert "$9.00" not in page


def test_what_owners_use_is_added_up_by_day_and_model(cast):
    now = timezone.now()
    make_entry(cast.alice, at=now, cost=1)
    make_entry(cast.alice, at=now, cost=2, model="CLAUDE-Opus-5-5", status="failed")
    make_entry(cast.alice, at=now - timedelta(days=3), cost=4)
    make_entry(cast.alice, at=now - timedelta(days=40), cost=8)
    rollups.roll_up()
    make_entry(cast.alice, at=now, cost=16)
    rollups.roll_up()
    usage = usage_of(cast.alice.pk * 4 + 2)
    assert (usage.total.cost, usage.total.calls, usage.total.failed_calls) == (Decimal(23), 4, 1)
    assert [name for name, _ in usage.models] == ["claude-opus-5-5"]
    assert [used.cost for used in usage.days.values() if used.calls] == [Decimal(4), Decimal(19)]
    before = list(OwnerDay.objects.order_by("owner", "day", "model").values())
    assert not any(found for _, found in rollups.rebuild())
    assert list(OwnerDay.objects.order_by("owner", "day", "model").values()) == before


@pytest.mark.parametrize(("spent", "colour"), [(10, "ample"), (85, "tight"), (100, "full")])
def test_a_budgets_bar_turns_amber_and_red(cast, admin, spent, colour):
    from django.db import connection

    budget = Budget.objects.create(virtual_key=cast.alice, amount=100)
    with connection.cursor() as cursor:
        cursor.execute("SELECT usage_open_windows(ARRAY[%s]::bigint[])", [budget.pk])
        cursor.execute("UPDATE usage_window SET spent = %s", [spent])
    assert f'class="budget-bar {colour}"' in shown(admin, "key", cast.alice.pk)


def test_the_page_of_a_key_says_whether_it_may_call(cast, admin):
    VirtualKeyRoute.objects.create(virtual_key=cast.alice, provider_key=cast.provider_key)
    Credential.objects.create(kind="virtual_key", virtual_key=cast.alice, digest=b"1" * 32, pepper="0")
    page = shown(admin, "key", cast.alice.pk, model="claude-opus-5-5")
    assert "Yes: the call would be admitted" in page
    Budget.objects.create(virtual_key=cast.alice, amount="0.0001")
    page = shown(admin, "key", cast.alice.pk, model="claude-opus-5-5", input_tokens="5000", max_tokens="100")
    assert 'class="verdict no"' in page
    assert "Raise it." in page
    assert "This field is required" in shown(admin, "key", cast.alice.pk, model="")


def test_a_page_makes_as_many_queries_for_many_rows_as_for_few(cast, admin, django_assert_max_num_queries):
    def everything(times):
        for number in range(times):
            Budget.objects.create(virtual_key=cast.alice, amount=50 + number, period="day")
            Limit.objects.create(virtual_key=cast.alice, kind="rpm", rate=60 + number)
            key = VirtualKey.objects.create(
                name=f"k{number}{times}", customer=cast.alice.customer, team=cast.alice.team
            )
            Team.objects.create(name=f"t{number}{times}", customer=cast.alice.customer)
            make_entry(cast.alice, at=timezone.now(), model=f"m{number}")
            make_entry(key, at=timezone.now(), model=f"m{number}")
        rollups.roll_up()

    def count(kind, pk):
        with django_assert_max_num_queries(60) as queries:
            shown(admin, kind, pk)
        return len(queries)

    pages = (("key", cast.alice.pk), ("team", cast.alice.team_id), ("customer", cast.alice.customer_id))
    everything(1)
    for page in pages:
        count(*page)  # fills Django's caches
    few = [count(*page) for page in pages]
    everything(6)
    # Fewer tables may be among the latest changes.
    assert all(many <= one for many, one in zip([count(*page) for page in pages], few, strict=True))


def test_hidden_and_unknown_owners_have_no_page(cast, admin):
    hidden = VirtualKey.objects.get(passthrough=True) if VirtualKey.objects.filter(passthrough=True) else None
    for kind, pk in (("key", 10**9), ("team", 10**9), ("customer", 10**9), *([("key", hidden.pk)] if hidden else [])):
        assert admin.get(f"/admin/{kind}/{pk}/").status_code == 404


def test_an_admin_of_one_team_sees_its_keys_alone(cast, client):
    from administration.role_names import Role
    from administration.roles import giving

    user = User.objects.create_user("tina", is_staff=True)
    giving.give(None, user, Role.TEAM_ADMIN, team=cast.alice.team)
    client.force_login(user)
    assert client.get(f"/admin/key/{cast.alice.pk}/").status_code == 200
    assert client.get(f"/admin/key/{cast.charlie.pk}/").status_code == 404
    assert client.get(f"/admin/customer/{Customer.objects.get(name='Theirs').pk}/").status_code in (403, 404)
