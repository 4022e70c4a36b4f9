"""Pages of lists by keyset: each cursor names the last row of its page, so that no page counts or skips rows."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import QueryDict

DEFAULT = 50
MOST = 200
LONGEST_CURSOR = 100


def size(query: QueryDict) -> int:
    """The most rows of a page.

    Raises:
        ValidationError: the limit is out of range.
    """
    limit = query.get("limit", str(DEFAULT))
    if not re.fullmatch("[0-9]{1,9}", limit) or not 1 <= int(limit) <= MOST:
        raise ValidationError({"limit": f"Expected a whole number from 1 to {MOST}."})
    return int(limit)


def page(rows: QuerySet[Any], query: QueryDict, *, newest_first: bool) -> tuple[list[Any], str | None]:
    """The rows of a page, and the cursor of the next one (None: there is no next one).

    Raises:
        ValidationError: the cursor or the limit can't be read.
    """
    most = size(query)
    ordered = rows.order_by("-pk" if newest_first else "pk")
    if "cursor" in query:
        last = _read(query.get("cursor", ""), UUID if rows.model._meta.pk.get_internal_type() == "UUIDField" else int)
        ordered = ordered.filter(**{"pk__lt" if newest_first else "pk__gt": last})
    found = list(ordered[: most + 1])
    more = len(found) > most
    return found[:most], _write(found[most - 1].pk) if more else None


def _write(last: object) -> str:
    return base64.urlsafe_b64encode(str(last).encode()).decode().rstrip("=")


def _read(cursor: str, kind: Callable[[str], Any]) -> Any:
    try:
        if len(cursor) > LONGEST_CURSOR:
            raise ValueError
        return kind(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii"))
    except ValueError:
        raise ValidationError({"cursor": "This is no cursor of this list: use the answer's next_cursor."}) from None
