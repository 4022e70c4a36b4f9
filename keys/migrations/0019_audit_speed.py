"""Look names up in the audit log by its index, so that a statement's time grows with its rows and not their square."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "audit_speed.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0018_audit_log")]

    operations: ClassVar = [
        # Backwards, the functions stay: they write the same events as those of 0018, which drops them by name.
        migrations.RunSQL(SQL.read_text(), migrations.RunSQL.noop),
    ]
