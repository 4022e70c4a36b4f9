"""A model that costs nothing is bounded by limits and by budgets of tokens like any other."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.support.fake_provider import Upstream, whole
from tests.support.gateway import MODEL, Caller, Web, ask, message, post, refused
from usage import own_prices
from usage.models import Budget, Limit, Price

ZERO = dict.fromkeys(("input", "output", "cache_read", "cache_write_5m", "cache_write_1h"), Decimal(0))


@pytest.mark.parametrize("price", [{"sets": "cost", **ZERO}, {"sets": "charge", "percent": Decimal(-100)}])
@pytest.mark.parametrize("bound", ["a limit", "a budget of tokens"])
@pytest.mark.parametrize("max_tokens", [0, 1])
def test_a_call_without_price_and_output_is_counted(
    web: Web, alice: Caller, upstream: Upstream, price: dict[str, Any], bound: str, max_tokens: int
) -> None:
    upstream.answer = lambda seen: whole(200, message())
    row = Price(model=MODEL, customer=alice.virtual_key.customer, **{"valid_from": None} | price)
    if bound == "a limit":
        Limit.objects.create(virtual_key=alice.virtual_key, kind="rpm", rate=1)
    else:
        Budget.objects.create(virtual_key=alice.virtual_key, unit="tokens", amount=Decimal(200))
    own_prices.add(row)
    try:
        answers = [post(web, alice.key, ask(max_tokens=max_tokens)) for _ in range(12)]
    finally:
        Price.objects.filter(pk=row.pk).delete()
    assert answers[0].status_code == 200
    refused(answers[-1], 429, "rate_limit_error" if bound == "a limit" else "billing_error")
