"""What is held for calls that are made again: usage/sql/attempts.sql."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0011_late_admissions"), ("keys", "0008_routing")]
    operations: ClassVar = [migrations.RunSQL((SQL / "attempts.sql").read_text(), "DROP FUNCTION usage_hold_more")]
