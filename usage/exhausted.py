"""What is said of a budget that refuses calls. A hard budget refuses what may not fit, so it seldom reaches 100 %."""

from __future__ import annotations

from decimal import Decimal

# With more than this part left, the refused call was too large, and others pass.
LITTLE = Decimal("0.2")


def is_used_up(left: Decimal, allowed: Decimal) -> bool:
    """Whether so little is left of a budget that it is called exhausted once it refuses a call."""
    return left <= max(allowed, Decimal(0)) * LITTLE


def in_words(since: str, left: Decimal, allowed: Decimal) -> str:
    """What is said of a budget that first refused a call of its window at `since`."""
    if is_used_up(left, allowed):
        return f"exhausted since {since}"
    return f"refused a call that needed more than was left: {since}"
