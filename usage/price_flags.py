"""Flags of ledger rows whose cost isn't simply the tokens at the list price."""

from __future__ import annotations

from collections.abc import Iterable

# Each flag with a label for people. If several apply, a row gets the first.
PRICE_FLAGS = {
    "doubtful_usage": "the provider reported implausible usage: the row is an estimate",
    "unpriced": "no price known: the high rate for unpriced models",
    "similar": "the price of a similar model",
    "refusal_billed": "a refusal before any output, billed by a rule that the provider doesn't document",
    "cache_writes_as_1h": "cache writes of unknown duration, at the one-hour price",
    "refusal_not_billed": "a refusal before any output, which is free",
}


def foremost(flags: Iterable[str]) -> str:
    """The flag that a row gets if several apply; empty if no flag applies."""
    found = set(flags)
    return next((flag for flag in PRICE_FLAGS if flag in found), "")
