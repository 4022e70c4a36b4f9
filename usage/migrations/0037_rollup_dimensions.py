"""More dimensions and measures of roll-ups.

Columns with a default need no rewrite of the table. Roll-ups that exist already lack them: they are summed again in the
background (usage/rollups.py), from today on backwards. A worker of an older version can't roll up any more: its rows
wait for one of this version.
"""

from __future__ import annotations

from typing import Any, ClassVar

import django.contrib.postgres.fields
from django.db import migrations, models

COUNTS = (
    *("unpriced_calls", "our_errors", "caller_errors", "provider_errors"),
    *("timed_calls", "duration_ms", "first_byte_ms"),
)
AMOUNTS = ("estimated_cost", "estimated_charge", "unpriced_cost", "unpriced_charge")
TEXTS = ("provider", "service_tier", "speed", "cost_centre", "project")


def array(of: models.Field[Any, Any]) -> django.contrib.postgres.fields.ArrayField[Any, Any]:
    return django.contrib.postgres.fields.ArrayField(base_field=of, null=True, size=None)


FIELDS: dict[str, Any] = {
    **{name: models.BigIntegerField(db_default=0, default=0) for name in COUNTS},
    **{name: models.DecimalField(db_default=0, decimal_places=12, default=0, max_digits=30) for name in AMOUNTS},
    **{name: array(models.DecimalField(decimal_places=12, max_digits=30)) for name in ("cost_split", "charge_split")},
    **{name: array(models.BigIntegerField()) for name in ("durations", "first_bytes")},
    **{name: models.TextField(db_default="", default="") for name in TEXTS},
    "stream": models.BooleanField(db_default=False, default=False),
}
LEFT = """
UPDATE usage_rollupstate SET whole_since = date_trunc('day', now(), 'UTC') + interval '1 day'
WHERE EXISTS (SELECT FROM usage_rollup)
"""
# Backwards: rows that differ only in what earlier versions don't know become one.
CELL = "bucket, customer_id, team_id, virtual_key_id, provider_key_id, model, status"
SUMS = (
    *("calls", "estimated_calls", "input_tokens", "output_tokens", "thinking_tokens", "cache_read_input_tokens"),
    *("cache_creation_5m_input_tokens", "cache_creation_1h_input_tokens", "web_search_requests", "cost"),
)
MERGE = f"""
LOCK TABLE usage_rollup IN SHARE ROW EXCLUSIVE MODE;
CREATE TEMPORARY TABLE merged ON COMMIT DROP AS
SELECT {CELL}, {", ".join(f"sum({name}) AS {name}" for name in SUMS)}, sum(coalesce(charge, cost)) AS charge
FROM usage_rollup GROUP BY {CELL};
DELETE FROM usage_rollup;
INSERT INTO usage_rollup ({CELL}, {", ".join(SUMS)}, charge) SELECT {CELL}, {", ".join(SUMS)}, charge FROM merged;
"""  # noqa: S608 - constants


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0036_splits")]

    operations: ClassVar = [
        migrations.RemoveConstraint("rollup", "usage_rollup_cell"),
        *(migrations.AddField("rollup", name, field) for name, field in FIELDS.items()),
        migrations.AddConstraint(
            "rollup",
            models.UniqueConstraint(
                fields=(
                    *("bucket", "customer", "team", "virtual_key", "provider_key", "model", "status"),
                    *("provider", "service_tier", "speed", "stream", "cost_centre", "project"),
                ),
                name="usage_rollup_cell",
                nulls_distinct=False,
            ),
        ),
        migrations.AddField("rollupstate", "rebuilt", models.BigIntegerField(db_default=0, default=0)),
        migrations.AddField("rollupstate", "whole_since", models.DateTimeField(null=True)),
        migrations.RunSQL(LEFT, MERGE),
    ]
