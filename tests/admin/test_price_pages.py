"""Billing ▸ Prices, what a call costs, pricing calls again, and what if."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from administration.prices.listed import moment_of
from administration.role_names import Role
from administration.roles import giving
from tests.support.ledger_rows import START, Cast, empty_ledger, make_cast, make_entry
from usage import amounts, own_prices
from usage.listings import find_listing
from usage.models import Adjustment, Price
from usage.pricing import load_price_book
from usage.tokens import TokenCounts

pytestmark = pytest.mark.django_db(transaction=True)
OPUS, CHANGED = "claude-opus-5-5", "claude-opus-4-6"


@pytest.fixture
def cast() -> Cast:
    empty_ledger()
    return make_cast()


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("boss"))
    return client


def read(client: Client, path: str, **query: Any) -> str:
    """The text of a page, without its tags."""
    answer = client.get(f"/admin/billing/{path}/", query)
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def add(**changes: Any) -> Price:
    price = Price(**{"sets": "charge", "model": "*", "percent": 10, "valid_from": None} | changes)
    own_prices.add(price)
    return price


def called(key: Any) -> Any:
    price = load_price_book().price("anthropic", OPUS, START)
    used = TokenCounts(input_tokens=100, output_tokens=10)
    return make_entry(key, cost=price.cost(used), price_version=price.version)


def test_list_prices_are_shown_as_they_were_on_a_day(boss: Client) -> None:
    listing = find_listing("anthropic", CHANGED)
    assert listing is not None
    days = [date(2026, 3, 12), date(2026, 3, 13)]
    before, after = (listing.model.get_prices(moment_of(day)) for day in days)
    assert vars(before) != vars(after)
    texts = [read(boss, "prices", q=CHANGED, provider="anthropic", on=day.isoformat()) for day in days]
    assert "12 Mar 2026, 23:59" in texts[0]
    assert all(amounts.price(load_price_book().price("anthropic", CHANGED, START).input) in text for text in texts)
    # The first price ends on the day on which the second one begins.
    assert "anthropic – 13 Mar 2026 $" in texts[0]
    assert "anthropic 13 Mar 2026 " in texts[1]


def test_own_prices_stand_beside_the_list(boss: Client) -> None:
    contract, markup = add(sets="cost", percent=-50, provider="anthropic"), add()
    text = read(boss, "prices", q=OPUS, provider="anthropic")
    assert f"our cost: price {contract.pk} on genai-prices" in text
    assert f"owners pay: price {markup.pk} on price {contract.pk}" in text
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    assert "our cost" not in read(boss, "prices", q=OPUS, provider="anthropic", on=yesterday)
    assert "No price list has such a model" in read(boss, "prices", q="no-such-model")


def test_a_look_says_what_an_owner_pays_and_which_row_won_and_why(boss: Client, cast: Cast) -> None:
    everyone, ours = add(percent=100), add(percent=50, customer=cast.alice.customer)
    later = add(percent=1, customer=cast.alice.customer, valid_from=datetime.now(UTC) + timedelta(days=1))
    call = {"provider": "anthropic", "model": OPUS, "input_tokens": 1_000_000, "output_tokens": 0}
    cost = load_price_book().price("anthropic", OPUS, datetime.now(UTC)).input
    text = read(boss, "price", **call, key=cast.alice.pk)
    assert f"The provider charges {amounts.usd(cost)} The owner pays {amounts.usd(cost * Decimal('1.5'))}" in text
    assert f"applies : price {ours.pk}" in text
    assert f"price {ours.pk} is for the customer, which comes first" in text
    assert f"doesn’t apply: price {later.pk}" in text
    assert "it isn&#x27;t in force yet" in text
    text = read(boss, "price", **call, key=cast.charlie.pk)
    assert f"The owner pays {amounts.usd(cost * 2)}" in text
    assert f"applies : price {everyone.pk}" in text
    assert f"price {ours.pk} ," not in text


def test_calls_are_priced_again_after_the_sum_was_shown(boss: Client, cast: Cast) -> None:
    called(cast.alice)
    add()
    which = {"since": "2026-11-01", "reason": "contract"}
    text = read(boss, "reprice", **which)
    assert "1 call read" in text
    assert not Adjustment.objects.exists()
    answer = boss.post("/admin/billing/reprice/", which | {"csrfmiddlewaretoken": "a-token"})
    assert answer.status_code == 302
    assert "a-token" not in answer["Location"]
    assert Adjustment.objects.get().author == "boss"
    assert "Nothing would change." in read(boss, "reprice", **which)


def test_a_billing_admin_prices_only_the_calls_of_their_customer(client: Client, cast: Cast) -> None:
    called(cast.alice)
    theirs = called(cast.charlie)
    add()
    person = User.objects.create_user("billing", is_staff=True)
    giving.give(None, person, Role.BILLING_ADMIN, customer=cast.charlie.customer)
    client.force_login(person)
    assert client.post("/admin/billing/reprice/", {"since": "2026-11-01", "reason": "x"}).status_code == 302
    assert [each.entry_id for each in Adjustment.objects.all()] == [theirs]


def test_what_if_shows_other_prices_and_calls_without_one(boss: Client, cast: Cast) -> None:
    called(cast.alice)
    make_entry(cast.bob, model="house-1", price_flag="unpriced", cost="0.0045", price_version="unpriced 30/150")
    text = read(boss, "what-if", since="2026-11-01", instead="claude-haiku-5-5")
    assert "2 calls read" in text
    text = read(boss, "what-if", since="2026-11-01", only="unpriced", instead=OPUS)
    assert "house-1 anthropic 1 $0.0045" in text
    assert "1 call read" in text
    assert not Adjustment.objects.exists()


def test_a_range_that_is_too_long_for_a_page_names_the_command(
    boss: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("administration.prices.runs.MOST", 1)
    for _ in range(2):
        called(cast.alice)
    assert "run manage.py reprice" in read(boss, "reprice", since="2026-11-01", reason="x")
    assert "run manage.py what_if" in read(boss, "what-if", since="2026-11-01")


DAYS = ("0001-01-01", "1999-12-31", "9001-01-01", "9999-12-31")


@pytest.mark.parametrize("day", DAYS)
def test_a_day_that_no_call_can_have_is_refused_in_the_form(boss: Client, day: str) -> None:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("prices", {"on": day}),
        ("price", {"on": day, "provider": "openai", "model": "deepseek-chat"}),
        ("reprice", {"since": "2026-01-01", "until": day, "reason": "x"}),
        ("what-if", {"since": "2026-01-01", "until": day}),
        ("what-if", {"since": day}),
    ]
    for path, query in asked:
        assert "Ensure this value is" in read(boss, path, **query)


@pytest.mark.parametrize("page", ["9" * 5000, "-1", "x", "", "\u0663"])
def test_a_page_that_there_is_not_is_the_first_or_last_one(boss: Client, page: str) -> None:
    assert "Model" in read(boss, "prices", page=page)
