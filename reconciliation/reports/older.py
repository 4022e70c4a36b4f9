"""Anthropic's older usage and cost reports, for organisations that can't read the Analytics API.

They have hours of tokens without request counts, and days of USD without keys.
https://platform.claude.com/docs/en/build-with-claude/usage-cost-api

Empty hours are listed too. Amounts are cents. Usage of Priority Tier has no cost there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from reconciliation.http import Query, Reader
from reconciliation.reads import Report
from reconciliation.reports import anthropic_headers
from reconciliation.reports.analytics import NAMES
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
    text,
)

USAGE, COST = "/v1/organizations/usage_report/messages", "/v1/organizations/cost_report"
DIMENSIONS = ("api_key_id", "model", "service_tier", "speed", "inference_geo")
# Buckets of a page: hours, and days.
HOURS, DAYS = "168", "31"


def read(reader: Reader, secret: str, report: Report, since: datetime, until: datetime) -> Found:
    """The hours (of usage) or days (of cost) of a range.

    Raises:
        Trouble: the report can't be read.
    """
    query: Query = [("starting_at", _written(since)), ("ending_at", _written(until))]
    if report == Report.USAGE:
        query = [*query, ("bucket_width", "1h"), ("limit", HOURS), *(("group_by[]", name) for name in DIMENSIONS)]
        pages = all_pages(reader, USAGE, query, anthropic_headers.headers(secret, anthropic_headers.FAST_BETA))
        return Found(used=merged(_used(start, row) for start, row in _results(pages)))
    query = [*query, ("bucket_width", "1d"), ("limit", DAYS), ("group_by[]", "description")]
    pages = all_pages(reader, COST, query, anthropic_headers.headers(secret))
    return Found(costs=[_cost(start, row) for start, row in _results(pages)])


def probe(reader: Reader, secret: str, hour: datetime) -> None:
    """Ask for one hour.

    Raises:
        Trouble: the key can't read these reports.
    """
    reader.get(
        USAGE,
        [("starting_at", _written(hour)), ("bucket_width", "1h"), ("limit", "1")],
        anthropic_headers.headers(secret),
    )


def _written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _results(pages: list[dict[str, Any]]) -> list[tuple[datetime, dict[str, Any]]]:
    return [
        (moment(bucket.get("starting_at")), row)
        for page in pages
        for bucket in listed(page.get("data"))
        for row in listed(bucket.get("results"))
    ]


def _used(start: datetime, row: dict[str, Any]) -> Used:
    writes = mapping(row.get("cache_creation"))
    tokens = {
        "input_tokens": count(row.get("uncached_input_tokens")),
        "output_tokens": count(row.get("output_tokens")),
        "cache_read_input_tokens": count(row.get("cache_read_input_tokens")),
        "cache_creation_5m_input_tokens": count(writes.get("ephemeral_5m_input_tokens")),
        "cache_creation_1h_input_tokens": count(writes.get("ephemeral_1h_input_tokens")),
        "web_search_requests": count(mapping(row.get("server_tool_use")).get("web_search_requests")),
    }
    return Used(start, About(*(text(row.get(name)) for name in DIMENSIONS)), None, tokens)


def _cost(start: datetime, row: dict[str, Any]) -> Cost:
    dollars(row.get("currency"))
    about = About("", *(text(row.get(name)) for name in ("model", "service_tier", "speed", "inference_geo")))
    kind = text(row.get("cost_type"))
    token_type = NAMES.get(text(row.get("token_type")), "") if kind == "tokens" else ""
    meter = "" if token_type else text(row.get("description")) or kind
    return Cost(start, about, kind, token_type, cents(row.get("amount")), None, meter)
