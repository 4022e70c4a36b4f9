"""Alerts of provider keys that their provider refuses (see usage/sql/refused.sql)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

SQL = Path(__file__).resolve().parent.parent / "sql" / "refused.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("keys", "0009_places"),
        ("usage", "0013_overruns"),
    ]

    operations: ClassVar = [
        migrations.AddField(
            model_name="alert",
            name="provider_key",
            field=models.ForeignKey(
                db_constraint=False,
                help_text="Whose key or account its provider refuses.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="keys.providerkey",
            ),
        ),
        migrations.AddField(model_name="alert", name="http_status", field=models.PositiveSmallIntegerField(null=True)),
        migrations.RemoveConstraint(model_name="alert", name="usage_alert_of_one"),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=Q(budget__isnull=False) ^ Q(virtual_key__isnull=False) ^ Q(provider_key__isnull=False),
                name="usage_alert_of_one",
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(fields=("provider_key", "start"), name="usage_alert_refused_once"),
        ),
        migrations.RunSQL(
            SQL.read_text(),
            """
            DROP TRIGGER usage_cooldown_refused ON keys_cooldown;
            DROP TRIGGER usage_cooldown_refused_again ON keys_cooldown;
            DROP FUNCTION usage_tell_of_refused;
            """,
        ),
    ]
