"""Budgets and limits know a model by whatever name it is called (usage/sql/model_names.sql)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "model_names.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0018_refusal_list")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(), migrations.RunSQL.noop)]
