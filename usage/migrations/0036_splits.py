"""What each category of a call's tokens costs (usage/splits.py). Rows from before have no split.

New columns without a value need no rewrite of a table; each takes its lock for a moment.
"""

from __future__ import annotations

from typing import Any, ClassVar

import django.contrib.postgres.fields
from django.db import migrations, models

COLUMNS = ("cost_split", "charge_split")


def split() -> django.contrib.postgres.fields.ArrayField[Any, Any]:
    return django.contrib.postgres.fields.ArrayField(
        base_field=models.DecimalField(decimal_places=12, max_digits=30), editable=False, null=True, size=None
    )


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0035_rollup_alerts")]

    operations: ClassVar = [
        migrations.RunSQL(
            "ALTER TABLE usage_ledgerentry ADD COLUMN cost_split numeric(30, 12)[],"
            " ADD COLUMN charge_split numeric(30, 12)[]",
            "ALTER TABLE usage_ledgerentry DROP COLUMN cost_split, DROP COLUMN charge_split",
        ),
        *(migrations.AddField("adjustment", name, split()) for name in COLUMNS),
    ]
