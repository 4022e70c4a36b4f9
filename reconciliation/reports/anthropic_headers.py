"""How requests for Anthropic's reports are signed, and which API keys the organisation has."""

from __future__ import annotations

from reconciliation.http import Reader
from reconciliation.reports.rows import ApiKey, listed, text

BASE_URL = "https://api.anthropic.com"
ANALYTICS_BETA = "analytics-usage-cost-2026-08-24"
FAST_BETA = "fast-mode-2026-02-01"
KEYS = "/v1/organizations/api_keys"
PAGE, MOST_PAGES = "1000", 50


def headers(secret: str, beta: str = "") -> dict[str, str]:
    """The headers of a request. https://platform.claude.com/docs/en/build-with-claude/administration-api"""
    return {"x-api-key": secret, "anthropic-version": "2023-06-01"} | ({"anthropic-beta": beta} if beta else {})


def api_keys(reader: Reader, secret: str) -> list[ApiKey]:
    """The organisation's keys, also those that aren't active: their usage is reported still.

    https://platform.claude.com/docs/en/api/admin-api/apikeys/list-api-keys

    Raises:
        Trouble: the list can't be read.
    """
    found: list[ApiKey] = []
    after = ""
    for _ in range(MOST_PAGES):
        page = reader.get(KEYS, [("limit", PAGE), *([("after_id", after)] if after else [])], headers(secret))
        found += [
            ApiKey(
                text(one.get("id")), text(one.get("name")), text(one.get("partial_key_hint")), text(one.get("status"))
            )
            for one in listed(page.get("data"))
        ]
        last = page.get("last_id")
        if page.get("has_more") is not True or not isinstance(last, str) or last == after:
            break
        after = last
    return found
