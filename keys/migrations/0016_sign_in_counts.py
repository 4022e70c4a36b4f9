"""Failures to sign in are counted."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0013_virtual_key_names")]
    operations: ClassVar = [
        migrations.CreateModel(
            "SignInCount",
            [
                ("subject", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("forgotten_at", models.DateTimeField(db_index=True)),
                ("succeeded_at", models.DateTimeField(null=True)),
            ],
        ),
    ]
