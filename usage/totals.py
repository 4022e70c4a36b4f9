"""Sums of all calls, without their callers: the roll-ups of the front page, of the page of a provider key, and of a
report of everything.

`usage_rollup` has a row for each virtual key, model and quarter of an hour. Of a large deployment, that is too much to
add up while a person waits, so the same task adds its rows up without their callers, too (usage/rollups.py). People who
see a part of the deployment only read `usage_rollup`.
"""

from __future__ import annotations

from typing import Any

from keys.visibility import visible
from usage.models import Rollup
from usage.tokens import TOKEN_COLUMNS

MEASURES = ("calls", "estimated_calls", *TOKEN_COLUMNS, "cost")


def sees_all(user: Any) -> bool:
    """Whether a person sees the roll-ups of every caller, and so their totals."""
    return not visible(user, Rollup.objects.all()).query.where


def _add(table: str, cell: tuple[str, ...], bucket: str, measures: tuple[str, ...]) -> str:
    columns, numbers = ", ".join(cell), range(1, len(cell) + 1)
    places = ", ".join(map(str, numbers))
    return f"""
    INSERT INTO {table} AS t ({columns}, {", ".join(measures)})
    SELECT {bucket}, {", ".join(f"f.{name}" for name in cell[1:])}, {", ".join(f"sum(f.{name})" for name in measures)}
    FROM {{fresh}} f GROUP BY {places} ORDER BY {places}
    ON CONFLICT ({columns}) DO UPDATE SET {", ".join(f"{name} = t.{name} + excluded.{name}" for name in measures)}
"""  # noqa: S608 - constants


# The rows to add, from rows of `fresh`, which have the columns of usage_rollup.
ADD_QUARTERS = _add("usage_quartertotal", ("bucket", "provider_key_id", "status"), "f.bucket", ("calls", "cost"))
ADD_DAYS = _add(
    "usage_daytotal",
    ("bucket", "provider_key_id", "model", "status"),
    "date_trunc('day', f.bucket, 'UTC')",
    MEASURES,
)
