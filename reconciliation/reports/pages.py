"""Reads all pages of a report. Pages belong together only if the provider's data stayed the same meanwhile."""

from __future__ import annotations

from typing import Any

from reconciliation.http import Query, Reader, Trouble

MOST_PAGES = 500
# How often a report is read from its first page, if its data are refreshed or its cursor ends while it is read.
BEGINNINGS = 4


class Refreshed(Exception):
    """The provider refreshed its data between two pages, so that the pages belong to different states."""


def all_pages(reader: Reader, path: str, query: Query, headers: dict[str, str]) -> list[dict[str, Any]]:
    """The pages, in order. A cursor is sent with the query that it belongs to, or the provider refuses it.

    Raises:
        Trouble: the report can't be read, or its data change all the time.
    """
    for _ in range(BEGINNINGS):
        try:
            return _pages(reader, path, query, headers)
        except Refreshed:
            continue
    raise Trouble("the provider refreshed its data each time before the report was read to its end")


def _pages(reader: Reader, path: str, query: Query, headers: dict[str, str]) -> list[dict[str, Any]]:
    pages: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(pages) < MOST_PAGES:
        try:
            page = reader.get(path, [*query, *([("page", cursor)] if cursor is not None else [])], headers)
        except Trouble as trouble:
            if cursor is not None and trouble.status == 400:  # the cursor has ended
                raise Refreshed from None
            raise
        if pages and page.get("data_refreshed_at") != pages[0].get("data_refreshed_at"):
            raise Refreshed
        pages.append(page)
        following = page.get("next_page")
        if page.get("has_more") is not True or not isinstance(following, str):
            return pages
        if following == cursor:
            raise Trouble("the provider's report names its own page as the next one")
        cursor = following
    raise Trouble(f"the provider's report has more than {MOST_PAGES} pages")
