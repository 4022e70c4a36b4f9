"""Where the reports are: at Anthropic's paths, also below the prefixes of clients' base URLs."""

from __future__ import annotations

from messages_api.prefixes import PREFIXES

BASE = "v1/organizations/analytics/"
REPORTS = ("usage", "cost")
# The SDKs append /v1/… to their base URL, even if that ends in /v1.
BEFORE = [prefix + again for prefix in ("", *PREFIXES) for again in ("", "v1/")]
PATHS = frozenset(f"/{before}{BASE}{report}" for before in BEFORE for report in REPORTS)


def is_report(path: str) -> bool:
    """Whether a request's path is that of a report."""
    return path in PATHS
