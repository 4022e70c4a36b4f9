"""Anthropic's Usage and Cost Analytics API: tokens, requests and USD by key, model, tier, speed, geo and hour.

`client.beta.organization.analytics` of the package `anthropic` 2.14.0 has its types. Amounts are fractional
*cents*, after the contract's discount. Rows come by size unless they are ordered by time. `limit` counts rows without
those that `cost_type` and `token_type` add. A cursor belongs to its query.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from reconciliation.http import Query, Reader
from reconciliation.reads import TOKEN_TYPES, Report
from reconciliation.reports import anthropic_headers
from reconciliation.reports.pages import all_pages
from reconciliation.reports.rows import (
    About,
    Cost,
    Found,
    Used,
    cents,
    count,
    dollars,
    listed,
    mapping,
    merged,
    moment,
    requests,
    text,
)

USAGE, COST = "/v1/organizations/analytics/usage", "/v1/organizations/analytics/cost"
DIMENSIONS = ("api_key_id", "model", "service_tier", "speed", "inference_geo")
ROWS = "1000"
# The ledger's names of the API's token types.
NAMES = {
    "uncached_input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_input_tokens",
    "cache_creation.ephemeral_5m_input_tokens": "cache_creation_5m_input_tokens",
    "cache_creation.ephemeral_1h_input_tokens": "cache_creation_1h_input_tokens",
}
assert set(NAMES.values()) == set(TOKEN_TYPES)


def read(reader: Reader, secret: str, report: Report, since: datetime, until: datetime) -> Found:
    """The hours of a range of at most 31 days.

    Raises:
        Trouble: the report can't be read.
    """
    path, more = (USAGE, []) if report == Report.USAGE else (COST, ["cost_type", "token_type"])
    query: Query = [
        ("starting_at", _written(since)),
        ("ending_at", _written(until)),
        ("time_bucket_width", "1h"),
        *(("group_by[]", name) for name in (*DIMENSIONS, *more)),
        ("order_by", "time"),
        ("order", "asc"),
        ("limit", ROWS),
    ]
    pages = all_pages(reader, path, query, anthropic_headers.headers(secret, anthropic_headers.ANALYTICS_BETA))
    rows = [row for page in pages for row in listed(page.get("data"))]
    found = Found(refreshed_at=moment(pages[0].get("data_refreshed_at")))
    if report == Report.USAGE:
        found.used = merged(map(_used, rows))
    else:
        found.costs = [_cost(row) for row in rows]
    return found


def probe(reader: Reader, secret: str, hour: datetime) -> None:
    """Ask for one hour without groups.

    Raises:
        Trouble: the key can't read this report.
    """
    query = [("starting_at", _written(hour)), ("limit", "1")]
    reader.get(USAGE, query, anthropic_headers.headers(secret, anthropic_headers.ANALYTICS_BETA))


def _written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _about(row: dict[str, Any]) -> tuple[datetime, About, dict[str, Any]]:
    group = mapping(row.get("group"))
    return moment(row.get("starting_at")), About(*(text(group.get(name)) for name in DIMENSIONS)), group


def _used(row: dict[str, Any]) -> Used:
    start, about, _ = _about(row)
    usage = mapping(row.get("usage"))
    writes = mapping(usage.get("cache_creation"))
    tokens = {
        "input_tokens": count(usage.get("uncached_input_tokens")),
        "output_tokens": count(usage.get("output_tokens")),
        "cache_read_input_tokens": count(usage.get("cache_read_input_tokens")),
        "cache_creation_5m_input_tokens": count(writes.get("ephemeral_5m_input_tokens")),
        "cache_creation_1h_input_tokens": count(writes.get("ephemeral_1h_input_tokens")),
        "web_search_requests": count(mapping(usage.get("server_tool_use")).get("web_search_requests")),
    }
    return Used(start, about, requests(usage.get("requests")), tokens)


def _cost(row: dict[str, Any]) -> Cost:
    start, about, group = _about(row)
    cost = mapping(row.get("cost"))
    dollars(cost.get("currency"))
    kind, name = text(group.get("cost_type")), text(group.get("token_type"))
    given = cost.get("list_amount")
    token_type = NAMES.get(name, "") if kind == "tokens" else ""
    meter = "" if token_type else f"{kind} {name}".strip()
    return Cost(
        start, about, kind, token_type, cents(cost.get("amount")), cents(given) if given is not None else None, meter
    )
