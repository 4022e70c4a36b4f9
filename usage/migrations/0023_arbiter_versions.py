"""The arbiter's functions move into schemas of their own (usage/functions.py).

Those in the tables' schema stay: processes of earlier versions call them while a deployment is upgraded. Processes of
later versions find their own schema first. A later migration drops them, except for what triggers need: the functions
below, usage_move and what it calls, usage_overran and usage_now.

These trigger functions call other functions, and keep to the tables' schema, whatever the version of the process is.
"""

from __future__ import annotations

from typing import ClassVar

import django.db.models.functions.datetime
from django.db import migrations, models

TRIGGERS = (
    "usage_count_adjustments",
    "usage_note_overrun",
    "usage_note_late_overrun",
    "usage_tell_of_refused",
    "usage_tell_of_doubtful",
)


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0022_webhook_addresses")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="ArbiterVersion",
            fields=[
                ("schema", models.CharField(max_length=63, primary_key=True, serialize=False)),
                ("made_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("used_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.AddField(
            "process", "arbiter", models.CharField(blank=True, db_default="", default="", max_length=63)
        ),
        *(
            migrations.RunSQL(
                f"ALTER FUNCTION {name} SET search_path FROM CURRENT",
                f"ALTER FUNCTION {name} RESET search_path",
            )
            for name in TRIGGERS
        ),
    ]
