"""An amount is shared in proportion to what was held, within the room of each part."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from reconciliation import adjusting

money = st.decimals(0, 1000, places=12)


@given(
    st.decimals(-2000, 2000, places=12),
    st.lists(st.tuples(money, money), min_size=1, max_size=6),
)
def test_shares_sum_to_the_amount_or_fill_the_room(amount: Decimal, parts: list[tuple[Decimal, Decimal]]) -> None:
    weights, most = [weight for weight, _ in parts], [room for _, room in parts]
    shares = adjusting.placed(amount, weights, most)
    assert all(abs(share) <= room for share, room in zip(shares, most, strict=True))
    assert all(not share for share, weight in zip(shares, weights, strict=True) if not weight)
    assert all(share * amount >= 0 for share in shares)
    room = sum((each for weight, each in parts if weight), Decimal(0))
    assert abs(abs(sum(shares, Decimal(0))) - min(abs(amount), room)) <= Decimal("1e-11") * len(parts)
