"""Alerts of provider keys whose provider reports usage that can't be true (see usage/sql/doubtful.sql)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

SQL = Path(__file__).resolve().parent.parent / "sql" / "doubtful.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("keys", "0013_virtual_key_names"),
        ("usage", "0018_refusal_list"),
    ]

    operations: ClassVar = [
        migrations.AlterField(
            model_name="alert",
            name="provider_key",
            field=models.ForeignKey(
                db_constraint=False,
                help_text="Whose key or account its provider refuses, or whose usage it reports wrong.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="keys.providerkey",
            ),
        ),
        migrations.RemoveConstraint(model_name="alert", name="usage_alert_refused_once"),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(
                fields=("provider_key", "start"),
                name="usage_alert_refused_once",
                condition=Q(http_status__isnull=False),
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(
                fields=("provider_key", "start"), name="usage_alert_doubtful_once", condition=Q(http_status=None)
            ),
        ),
        migrations.RunSQL(
            SQL.read_text(),
            """
            DROP TRIGGER usage_ledgerentry_doubtful ON usage_ledgerentry;
            DROP FUNCTION usage_tell_of_doubtful;
            """,
        ),
    ]
