"""What a ledger row says of its cost where that isn't simply its tokens at the list price."""

from __future__ import annotations

from collections.abc import Iterable

# With words for people; where several hold, a row has the first.
PRICE_FLAGS = {
    "doubtful_usage": "the provider reported what can't be true: an estimate, as far as that goes",
    "unpriced": "the high rate for models without a price",
    "similar": "that of a similar model",
    "refusal_billed": "a refusal before any output, billed by a rule that the provider's own pages don't state",
    "cache_writes_as_1h": "cache writes of unknown duration, at the price of one hour",
    "refusal_not_billed": "a refusal before any output, which costs nothing",
}


def foremost(flags: Iterable[str]) -> str:
    """The flag that a row has of several; empty where there is none."""
    found = set(flags)
    return next((flag for flag in PRICE_FLAGS if flag in found), "")
