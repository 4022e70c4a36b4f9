"""Rows as Anthropic's API writes them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from administration.analytics.queries import GROUPS, Query
from administration.analytics.rows import TOKENS, Row
from reconciliation.reports.analytics import NAMES
from reconciliation.reports.rows import EXACT

# The API's types of tokens, with the categories of which the ledger knows the cost.
TOKEN_TYPES = {
    "uncached_input_tokens": "input",
    "output_tokens": "output",
    "cache_read_input_tokens": "cache_read",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
}
assert set(TOKEN_TYPES) == set(NAMES)
# Money that belongs to no category has the type `tokens`, and no type of tokens.
WITHOUT_TYPE = ("flat", "rest")


def written(moment: datetime) -> str:
    """A time as answers have it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def cents(amount: Decimal) -> str:
    """USD as a string of cents, with all digits and no zeros at the end."""
    text = f"{EXACT.scaleb(amount, 2):f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("", "-0") else text


def data_of(query: Query, row: Row) -> Iterator[dict[str, Any]]:
    """What a row becomes: one item, or several that `cost_type` and `token_type` split it into."""
    if query.report == "usage":
        yield _item(query, row) | {"usage": _usage(row)}
    elif not query.parts:
        yield _item(query, row) | {"cost": _cost(row.values["amount"], row.values["calls"])}
    else:
        for cost_type, token_type, amount in _parts(query, row):
            if amount:
                yield _item(query, row, cost_type, token_type) | {"cost": _cost(amount, None)}


def _item(query: Query, row: Row, cost_type: str | None = None, token_type: str | None = None) -> dict[str, Any]:
    group: dict[str, Any] = dict.fromkeys(GROUPS) | dict(row.group)
    if "actor" in query.groups:
        group["actor"] = {"type": "api_actor", "api_key_id": group["actor"]}
    if "actor_type" in query.groups:
        group["actor_type"] = "api_actor"
    if query.report == "cost":
        group |= {"cost_type": cost_type, "token_type": token_type}
    return {"starting_at": written(row.start), "ending_at": written(row.end), "group": group}


def _usage(row: Row) -> dict[str, Any]:
    values = row.values
    return {
        "uncached_input_tokens": values["input_tokens"],
        "cache_creation": {
            "ephemeral_5m_input_tokens": values["cache_creation_5m_input_tokens"],
            "ephemeral_1h_input_tokens": values["cache_creation_1h_input_tokens"],
        },
        "cache_read_input_tokens": values["cache_read_input_tokens"],
        "output_tokens": values["output_tokens"],
        "total_tokens": sum(values[name] for name in TOKENS),
        "server_tool_use": {"web_search_requests": values["web_search_requests"]},
        "requests": values["calls"],
    }


def _cost(amount: Decimal, requests: int | None) -> dict[str, Any]:
    # Sums keep no list price: what is owed is given for both.
    return {"amount": cents(amount), "list_amount": cents(amount), "currency": "USD", "requests": requests}


def _parts(query: Query, row: Row) -> Iterator[tuple[str, str | None, Decimal]]:
    """The parts of a row with their cost type and token type."""
    values = row.values
    by_type = {name: values[category] for name, category in TOKEN_TYPES.items()}
    without = sum((values[name] for name in WITHOUT_TYPE), Decimal(0))
    if "token_type" in query.parts:
        for name, amount in by_type.items():
            yield "tokens", name, amount
        yield "tokens", None, without
    else:
        yield "tokens", None, sum(by_type.values(), without)
    if "cost_type" in query.parts:
        yield "web_search", None, values["web_search"]
