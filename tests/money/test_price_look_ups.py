"""Prices of several made-up models are looked up one at a time, with turns for other calls between them."""

from __future__ import annotations

import asyncio
import itertools
from decimal import Decimal
from typing import Any, cast

from messages_api.process.prices import Prices
from tests.support.reckoned import NOW
from usage import pricing
from usage.price_rows import Owner
from usage.pricing import UnpricedPolicy


def test_others_have_a_turn_between_the_prices_of_made_up_models() -> None:
    prices = Prices(cast(Any, None), cast(Any, None))
    looked_up: list[int] = []
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            looked_up.append(len(prices.book.known))
            await asyncio.sleep(0)

    async def look_up() -> None:
        other = asyncio.ensure_future(others())
        names = [("openai", f"made-up-{number}") for number in range(20)]
        await prices.look_up(names, Owner(1, None, 1))
        other.cancel()
        assert all(prices.price(*name, NOW) for name in names)

    prices._book = pricing.build([], UnpricedPolicy(refuse=False, input=Decimal(30), output=Decimal(150)))
    asyncio.run(look_up())
    assert max(after - before for before, after in itertools.pairwise(looked_up)) <= 1
    assert turns >= 20
