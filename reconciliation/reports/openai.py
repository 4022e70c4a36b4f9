"""OpenAI's usage (hours) and costs (days), by API key. Types: the package `openai` 3.57.0, `types/admin`.

`input_tokens` includes what was cached and written to caches. Amounts are JSON numbers, which must not become floats.
https://platform.openai.com/docs/api-reference/usage
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from reconciliation.http import Query, Reader
from reconciliation.reads import Report
from reconciliation.reports.pages import all_pages
from reconciliation.reports.rows import (
    About,
    ApiKey,
    Cost,
    Found,
    Surprise,
    Used,
    count,
    decimal,
    dollars,
    listed,
    mapping,
    merged,
    requests,
    text,
)

BASE_URL = "https://api.openai.com"
USAGE, COST = "/v1/organization/usage/completions", "/v1/organization/costs"
PROJECTS = "/v1/organization/projects"
# Buckets of a page: hours, and days.
HOURS, DAYS = "168", "180"
PAGE, MOST_PAGES = "100", 50
# Words of line items (`gpt-6-astra, cached input`), the first that fits.
TOKEN_WORDS = (
    ("cache_write", "cache_creation_5m_input_tokens"),
    ("cache write", "cache_creation_5m_input_tokens"),
    ("cached", "cache_read_input_tokens"),
    ("input", "input_tokens"),
    ("output", "output_tokens"),
)


def headers(secret: str) -> dict[str, str]:
    """The headers of a request."""
    return {"authorization": f"Bearer {secret}"}


def read(reader: Reader, secret: str, report: Report, since: datetime, until: datetime) -> Found:
    """The hours (of usage) or days (of cost) of a range.

    Raises:
        Trouble: the report can't be read.
    """
    times = [("start_time", str(int(since.timestamp()))), ("end_time", str(int(until.timestamp())))]
    if report == Report.USAGE:
        groups = ("api_key_id", "model", "batch", "service_tier")
        query: Query = [*times, ("bucket_width", "1h"), ("limit", HOURS), *(("group_by[]", name) for name in groups)]
        pages = all_pages(reader, USAGE, query, headers(secret))
        return Found(used=merged(_used(start, row) for start, row in _results(pages)))
    query = [*times, ("bucket_width", "1d"), ("limit", DAYS), ("group_by[]", "api_key_id"), ("group_by[]", "line_item")]
    pages = all_pages(reader, COST, query, headers(secret))
    return Found(costs=[_cost(start, row) for start, row in _results(pages)])


def probe(reader: Reader, secret: str, hour: datetime) -> None:
    """Ask for one hour.

    Raises:
        Trouble: the key can't read these reports.
    """
    query = [("start_time", str(int(hour.timestamp()))), ("bucket_width", "1h"), ("limit", "1")]
    reader.get(USAGE, query, headers(secret))


def api_keys(reader: Reader, secret: str) -> list[ApiKey]:
    """The keys of all projects.

    Raises:
        Trouble: a list can't be read.
    """
    found = []
    for project in _all(reader, secret, PROJECTS, [("include_archived", "true")]):
        path = f"{PROJECTS}/{_id(project)}/api_keys"
        found += [
            ApiKey(_id(one), text(one.get("name")), text(one.get("redacted_value")), "")
            for one in _all(reader, secret, path, [])
        ]
    return found


def _id(row: dict[str, Any]) -> str:
    found = text(row.get("id"))
    if not found or not found.replace("_", "").replace("-", "").isalnum() or not found.isascii():
        raise Surprise("the provider's list has an id that isn't one")
    return found


def _all(reader: Reader, secret: str, path: str, query: Query) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = ""
    for _ in range(MOST_PAGES):
        page = reader.get(path, [*query, ("limit", PAGE), *([("after", after)] if after else [])], headers(secret))
        found += listed(page.get("data"))
        last = page.get("last_id")
        if page.get("has_more") is not True or not isinstance(last, str) or last == after:
            break
        after = last
    return found


def _results(pages: list[dict[str, Any]]) -> list[tuple[datetime, dict[str, Any]]]:
    return [
        (datetime.fromtimestamp(count(bucket.get("start_time")), UTC), row)
        for page in pages
        for bucket in listed(page.get("data"))
        for row in listed(bucket.get("results"))
    ]


def _used(start: datetime, row: dict[str, Any]) -> Used:
    cached, written = count(row.get("input_cached_tokens")), count(row.get("input_cache_write_tokens"))
    uncached = row.get("input_uncached_tokens")
    fresh = count(uncached) if uncached is not None else max(0, count(row.get("input_tokens")) - cached - written)
    tier = "batch" if row.get("batch") is True else text(row.get("service_tier"))
    tokens = {
        "input_tokens": fresh,
        "output_tokens": count(row.get("output_tokens")),
        "cache_read_input_tokens": cached,
        "cache_creation_5m_input_tokens": written,
    }
    about = About(text(row.get("api_key_id")), text(row.get("model")), tier)
    return Used(start, about, requests(row.get("num_model_requests")), tokens)


def _cost(start: datetime, row: dict[str, Any]) -> Cost:
    amount = mapping(row.get("amount"))
    dollars(amount.get("currency"))
    item = text(row.get("line_item"))
    model, _, rest = item.partition(",")
    token_type = next((name for word, name in TOKEN_WORDS if word in rest.lower()), "")
    tier = "batch" if "batch" in rest.lower() else ""
    about = About(text(row.get("api_key_id")), model.strip(), tier)
    kind = "tokens" if token_type else "other"
    return Cost(start, about, kind, token_type, decimal(amount.get("value")), None, "" if token_type else item)
