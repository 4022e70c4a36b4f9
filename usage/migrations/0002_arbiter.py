"""The ledger's table, in SQL: see usage/sql/ledger.sql."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"

BACKWARD = """
DROP FUNCTION usage_make_partitions;
DROP TABLE usage_ledgerentry;
DROP FUNCTION usage_first_id;
DROP TRIGGER usage_adjustment_append_only ON usage_adjustment;
DROP FUNCTION usage_refuse_change;
ALTER TABLE usage_adjustment DROP COLUMN xid;
DELETE FROM usage_rollupstate;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0001_initial"), ("keys", "0002_revisions")]
    operations: ClassVar = [
        migrations.RunSQL((SQL / "ledger.sql").read_text(), BACKWARD),
    ]
