from __future__ import annotations

import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from keys.admin_lists import BoundedPaginator, show_count
from keys.models import Team, VirtualKey
from tests.support.admin_forms import change
from tests.support.ledger_rows import empty_ledger, make_cast, make_entry
from usage import request_ids
from usage.models import Adjustment, DayTotal, Hold, LedgerEntry, Overrun, Price, Process, Refusal

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast():
    empty_ledger()
    return make_cast()


@pytest.fixture
def admin(client):
    client.force_login(User.objects.create_superuser("admin"))
    return client


def make_refusal(**changes):
    plain = {
        "id": request_ids.new_id(),
        "refused_at": timezone.now(),
        "http_status": 401,
        "error_type": "authentication_error",
        "reason": "revoked",
        "message": "This key was revoked.",
        "endpoint": "messages",
    }
    return Refusal.objects.create(**plain | changes)


def found(client, path, **query):
    page = client.get(f"/admin/usage/{path}/", query)
    assert page.status_code == 200
    return page.context["cl"].result_count


def test_a_call_is_found_by_its_request_id(cast, admin):
    entry = make_entry(cast.alice)
    make_entry(cast.bob, provider_request_id="req_other")
    assert found(admin, "ledgerentry") == 2
    assert found(admin, "ledgerentry", q=request_ids.request_id(entry)) == 1
    assert found(admin, "ledgerentry", q=str(entry)) == 1
    assert found(admin, "ledgerentry", q="req_other") == 1
    assert found(admin, "ledgerentry", q="req_oth") == 0
    assert found(admin, "ledgerentry", q="req_bf_nonsense") == 0


def test_a_call_is_found_by_how_it_ended_and_was_priced(cast, admin):
    make_entry(cast.alice, status="failed", provider_key=cast.provider_key)
    make_entry(cast.bob, price_flag="unpriced", model="claude-next")
    DayTotal.objects.create(bucket=timezone.now(), model="claude-next", status="completed")
    assert found(admin, "ledgerentry", status__exact="failed") == 1
    assert found(admin, "ledgerentry", price_flag="unpriced") == 1
    assert found(admin, "ledgerentry", model="claude-next") == 1
    assert found(admin, "ledgerentry", provider_key__id__exact=cast.provider_key.id) == 1


def test_records_can_be_looked_at_but_not_changed(cast, admin):
    entry = make_entry(cast.alice, provider_key=cast.provider_key)
    adjustment = Adjustment.objects.create(entry_id=entry, reason="correction", cost=1)
    refusal = make_refusal(virtual_key=cast.alice)
    for path, pk in (("ledgerentry", entry), ("adjustment", adjustment.pk), ("refusal", refusal.pk)):
        page = admin.get(f"/admin/usage/{path}/{pk}/change/")
        assert page.status_code == 200
        assert 'name="_save"' not in page.content.decode()
        assert admin.post(f"/admin/usage/{path}/{pk}/change/", {"cost": 0}).status_code == 403
        assert admin.post(f"/admin/usage/{path}/{pk}/delete/", {"post": "yes"}).status_code == 403
        assert admin.get(f"/admin/usage/{path}/add/").status_code == 403
    assert LedgerEntry.objects.count() == 1


def test_a_refusal_is_found_by_its_request_id(admin):
    refusal = make_refusal()
    make_refusal()
    assert found(admin, "refusal", q=request_ids.request_id(refusal.id)) == 1
    assert found(admin, "adjustment", q="nonsense") == 0


def make_hold(key, process):
    Hold.objects.create(
        process=process,
        admitted_at=timezone.now(),
        credential=1,
        virtual_key=key,
        customer=key.customer,
        endpoint="messages",
        requested_model="claude-opus-5-5",
        stream=True,
        provider="anthropic",
        ceiling=1,
        input_tokens=1,
        input_cost=1,
        max_tokens=1,
        output_price=1,
        price_version="test",
    )


def test_it_shows_what_is_under_way(cast, admin):
    process = Process.objects.create(id=uuid.uuid4(), host="here", pid=1)
    make_hold(cast.alice, process.id)
    for path in ("hold", "process"):
        assert found(admin, path) == 1


PRICE = {
    "provider": "anthropic",
    "model": "claude-opus-*",
    "valid_from": "2999-01-01T00:00",
    "input": "4",
    "output": "20",
    "cache_read": "0.2",
    "cache_write_5m": "5",
    "cache_write_1h": "8",
    "web_search": "0.01",
    "note": "contract",
}


def add_price(client, **changes):
    return client.post("/admin/usage/price/add/", PRICE | changes)


def test_a_price_is_added_and_can_be_changed_until_it_is_valid(admin):
    assert add_price(admin).status_code == 302
    price = Price.objects.get(note="contract")
    assert change(admin, f"/admin/usage/price/{price.pk}/change/", PRICE | {"input": "3"}).status_code == 302
    price.refresh_from_db()
    assert price.input == 3
    price.valid_from = timezone.now() - timedelta(seconds=1)
    price.save()
    assert admin.post(f"/admin/usage/price/{price.pk}/change/", PRICE).status_code == 403
    assert admin.post(f"/admin/usage/price/{price.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin.get("/admin/usage/price/").status_code == 200


def test_a_price_starts_now_at_the_earliest(admin):
    now = timezone.now()
    a_minute_ago = now - timedelta(minutes=1)
    add_price(admin, valid_from=f"{a_minute_ago:%Y-%m-%dT%H:%M:%S}")
    assert Price.objects.get(note="contract").valid_from >= now
    assert "start in the past" in add_price(admin, valid_from="2020-01-01T00:00").content.decode()


@pytest.mark.parametrize("changes", [{"input": "-1"}, {"model": "a b"}, {"provider": "x"}, {"output": "NaN"}])
def test_a_bad_price_is_refused(admin, changes):
    assert add_price(admin, **changes).status_code == 200
    assert not Price.objects.filter(note="contract").exists()


@pytest.mark.parametrize(("bound", "said"), [(3, "3+ calls"), (4, "4+ calls"), (5, "5 calls")])
def test_a_long_list_is_not_counted_to_its_end_and_says_so(cast, admin, monkeypatch, bound, said):
    monkeypatch.setattr(BoundedPaginator, "BOUND", bound)
    for _ in range(5):
        make_entry(cast.alice)
    assert BoundedPaginator(LedgerEntry.objects.all(), 2).count == bound
    page = " ".join(admin.get("/admin/usage/ledgerentry/").content.decode().split())
    assert said in page
    assert f"{bound} results" not in page or bound == 5


def test_thousands_are_grouped_in_counts():
    long = SimpleNamespace(paginator=SimpleNamespace(is_capped=True), result_count=10_000)
    show_count(long)
    assert long.counted == "10,000+"


def test_every_page_shows_the_unit_of_a_price(admin):
    add_price(admin)
    price = Price.objects.get(note="contract")
    pages = ["/admin/usage/price/add/", "/admin/usage/price/", f"/admin/usage/price/{price.pk}/change/"]
    for path in pages:
        page = admin.get(path).content.decode()
        assert "USD per million tokens" in page
        assert "USD per request" in page
    Price.objects.update(valid_from=timezone.now() - timedelta(days=1))
    page = admin.get(pages[-1]).content.decode()
    assert 'name="input"' not in page
    assert "USD per million tokens" in page
    shown = admin.get("/admin/usage/price/").content.decode()
    assert ">$0.20<" in shown
    assert "000000" not in shown


@pytest.mark.parametrize("path", ["ledgerentry", "refusal", "hold", "overrun"])
def test_a_list_says_whose_key_it_was(cast, admin, path, django_assert_max_num_queries):
    other = Team.objects.create(customer=cast.charlie.customer, name="Research")
    VirtualKey.objects.filter(pk=cast.charlie.pk).update(team=other)
    for key in (cast.alice, VirtualKey.objects.get(pk=cast.charlie.pk)):
        make_row(path, key)
    # The first page of a session records it.
    admin.get(f"/admin/usage/{path}/")
    with django_assert_max_num_queries(12):
        page = admin.get(f"/admin/usage/{path}/").content.decode()
    assert "Ours / Research" in page
    assert "Theirs / Research" in page


def make_row(path, key):
    if path == "ledgerentry":
        make_entry(key)
    elif path == "refusal":
        make_refusal(virtual_key=key)
    elif path == "overrun":
        Overrun.objects.create(call=uuid.uuid4(), at=timezone.now(), virtual_key=key, cost=2, held=1)
    else:
        make_hold(key, uuid.uuid4())
