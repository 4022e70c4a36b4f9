"""The arbiter: its types and functions, in SQL (see usage/sql/), in place of those that knew no budgets."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"

OLDER = """
DROP FUNCTION IF EXISTS usage_reap(interval, integer);
DROP FUNCTION IF EXISTS usage_interrupt(usage_hold[], timestamptz, integer);
DROP FUNCTION IF EXISTS usage_group(uuid, bigint, jsonb, uuid[], jsonb);
DROP FUNCTION IF EXISTS usage_settle(jsonb);
DROP FUNCTION IF EXISTS usage_expire();
DROP FUNCTION IF EXISTS usage_settle_parts(uuid, jsonb, boolean);
DROP FUNCTION IF EXISTS usage_open(jsonb);
DROP FUNCTION IF EXISTS usage_part_id(uuid, text);
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0006_budgets")]
    operations: ClassVar = [
        migrations.RunSQL(OLDER),
        *(migrations.RunSQL((SQL / name).read_text()) for name in ("budgets.sql", "arbiter.sql", "batches.sql")),
    ]
