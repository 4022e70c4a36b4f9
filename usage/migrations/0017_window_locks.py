"""Windows that others have made meanwhile are locked in the common order only (usage/sql/window_locks.sql)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "window_locks.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0016_exhausted_budgets")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(), migrations.RunSQL.noop)]
