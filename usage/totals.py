"""Sums of all calls, without their callers: the roll-ups of the front page and of the page of a provider key.

`usage_rollup` has a row for each virtual key, model and quarter of an hour. Of a large deployment, that is too much to
add up while a person waits, so the same task adds its rows up without their callers, too (usage/rollups.py). People who
see a part of the deployment only read `usage_rollup`.
"""

from __future__ import annotations

from typing import Any

from keys.visibility import visible
from usage.measures import MEASURES, sums_of
from usage.models import Rollup
from usage.summed import Summed


def sees_all(user: Any) -> bool:
    """Whether a person sees the roll-ups of every caller, and so their totals."""
    return not visible(user, Rollup.objects.all()).query.where


QUARTERS = Summed(
    "usage_quartertotal",
    {"bucket": "f.bucket", "provider_key_id": "f.provider_key_id", "status": "f.status"},
    sums_of(("calls", "cost", "charge")),
)
DAYS = Summed(
    "usage_daytotal",
    {
        "bucket": "date_trunc('day', f.bucket, 'UTC')",
        "provider_key_id": "f.provider_key_id",
        "model": "f.model",
        "status": "f.status",
    },
    sums_of(MEASURES),
)
