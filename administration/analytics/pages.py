"""Pages of a report, and their cursors.

A cursor says where its page begins, and has a hash of the rows before. The rows are summed again for each page. If
those before are still the same, the pages together are the report as it is now; if not, the cursor is refused: pages
of two states would have rows twice, or not at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from administration.analytics.errors import WrongParameter
from administration.analytics.queries import WIDTHS, Query, end_of, floor
from administration.analytics.rows import Row, rows_of
from administration.analytics.shape import data_of, written
from usage import rollups

LONGEST_CURSOR = 400
HOUR = WIDTHS["1h"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins.

    Attributes:
        place: how many rows come before it.
        until: the end of the range, which an open range had on the first page.
        refreshed_at: up to when the first page had data; later pages have at least these.
        query, before: hashes of the query with its person, and of the rows before.
    """

    place: int
    until: datetime
    refreshed_at: datetime
    query: str
    before: str

    def text(self) -> str:
        """As answers have it."""
        found = [self.place, self.until.timestamp(), self.refreshed_at.timestamp(), self.query, self.before]
        return base64.urlsafe_b64encode(json.dumps(found).encode()).decode().rstrip("=")


def read_cursor(text: str) -> Cursor:
    """The cursor of a text.

    Raises:
        WrongParameter: it isn't one.
    """
    try:
        if len(text) > LONGEST_CURSOR:
            raise ValueError
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        place, until, refreshed_at, query, before = json.loads(decoded)
        if not isinstance(place, int) or place < 1 or not isinstance(query, str) or not isinstance(before, str):
            raise ValueError
        return Cursor(
            place, datetime.fromtimestamp(until, UTC), datetime.fromtimestamp(refreshed_at, UTC), query, before
        )
    except (ValueError, TypeError, OverflowError, OSError, RecursionError):
        raise WrongParameter("page", "is no cursor: send the next_page of an answer") from None


def page_of(query: Query, user: Any, now: datetime) -> dict[str, Any]:
    """A page of what a person may see.

    Raises:
        Unusable: the cursor belongs to another query, or the report can't be made.
    """
    bound = hashlib.sha256(f"{query.digest} {user.pk}".encode()).hexdigest()[:32]
    if query.page:
        cursor = read_cursor(query.page)
        if cursor.query != bound:
            raise WrongParameter("page", "the cursor belongs to another query: send it with the parameters of its own")
        check_end(cursor.until, query, now)
    else:
        # Without the first page's roll-up, the rows before a cursor change less often.
        refreshed_at = rollups.freshen() or now
        cursor = Cursor(0, end_of(query, now), refreshed_at.replace(microsecond=0), bound, digest_of([]))
    rows = rows_of(query, cursor.until, user)
    if digest_of(rows[: cursor.place]) != cursor.before:
        raise WrongParameter("page", "the figures have changed since the first page: begin again without it")
    end = cursor.place + query.limit
    following = None
    if end < len(rows):
        following = Cursor(end, cursor.until, cursor.refreshed_at, bound, digest_of(rows[:end])).text()
    return {
        "data": [item for row in rows[cursor.place : end] for item in data_of(query, row)],
        "has_more": following is not None,
        "next_page": following,
        "data_refreshed_at": written(cursor.refreshed_at),
    }


def check_end(until: datetime, query: Query, now: datetime) -> None:
    """Check that a cursor's range ends where one of this query's can: anyone can write a cursor.

    Raises:
        WrongParameter: it doesn't.
    """
    most = end_of(query, now)
    fits = until == most if query.until is not None else query.since <= until <= most and until == floor(until, HOUR)
    if not fits:
        raise WrongParameter("page", "is no cursor of this query: send the next_page of an answer")


def digest_of(rows: list[Row]) -> str:
    """A hash of rows."""
    found = hashlib.sha256()
    for row in rows:
        values = [(name, f"{value:f}" if hasattr(value, "as_tuple") else value) for name, value in row.values.items()]
        found.update(repr((row.start, list(row.group.items()), values)).encode())
    return found.hexdigest()[:32]
