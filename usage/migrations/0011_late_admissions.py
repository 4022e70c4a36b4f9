"""Admitting afterwards what passed while the arbiter was away."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations

LATE = Path(__file__).resolve().parent.parent / "sql" / "late.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0008_alert_delivery")]
    operations: ClassVar = [
        migrations.RunSQL(LATE.read_text(), "DROP FUNCTION usage_admit_late(uuid, jsonb)"),
    ]
