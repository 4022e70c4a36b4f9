"""What the owner of a batch pays, where that isn't what the provider charges."""

from __future__ import annotations

from decimal import Decimal

from django.utils import timezone

from tests.support.batch_provider import BatchProvider
from tests.support.fake_provider import Upstream
from tests.support.gateway import CLIENT, Caller, Web, ask, credentials, post
from usage import own_prices, verification
from usage.models import Budget, Hold, LedgerEntry, Price, Window

BATCHES = "/v1/messages/batches"
# At batch prices: half of $4 and $20 for a million tokens.
EACH = (Decimal(4) * 100 + Decimal(20) * 20).scaleb(-6) / 2


def test_a_batch_is_held_and_its_lines_are_paid_at_the_price_of_its_owner(
    web: Web, alice: Caller, upstream: Upstream
) -> None:
    upstream.answer = provider = BatchProvider()
    budget = Budget.objects.create(amount=10, team=alice.team)
    price = Price(
        valid_from=timezone.now(), sets="charge", model="*", team=alice.team, percent=50, flat=Decimal("0.01")
    )
    own_prices.add(price)
    try:
        requests = [{"custom_id": each, "params": ask()} for each in "abc"]
        assert post(web, alice.key, {"requests": requests}, BATCHES).status_code == 200
        hold = Hold.objects.get(process__isnull=True)
        assert hold.ceiling > 3 * (64 * Decimal(20).scaleb(-6) / 2 * Decimal("1.5") + price.flat)
        assert hold.cost_factor is not None
        assert 0 < hold.cost_factor < Decimal(1) / Decimal("1.5")
        provider.results = {"c": {"type": "canceled"}}
        provider.end()
        CLIENT.get(f"{web.url}{BATCHES}/msgbatch_0001/results", headers=credentials(alice.key))
    finally:
        Price.objects.filter(pk=price.pk).delete()
    lines = LedgerEntry.objects.filter(endpoint="batches.request").order_by("client_labels__custom_id")
    charge = EACH * Decimal("1.5") + Decimal("0.01")
    nothing = Decimal(0)
    assert [(line.cost, line.owed) for line in lines] == [(EACH, charge), (EACH, charge), (nothing, nothing)]
    window = Window.objects.get(budget=budget)
    assert (window.spent, window.held) == (2 * charge, nothing)
    assert verification.verify() == []
