"""Cool-downs and late admissions go by the models that a call is aimed at (usage/sql/cooling.sql, late_shares.sql)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0014_refused_provider_keys")]
    operations: ClassVar = [
        migrations.RunSQL((SQL / name).read_text(), migrations.RunSQL.noop)
        for name in ("cooling.sql", "late_shares.sql")
    ]
