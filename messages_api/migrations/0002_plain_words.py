"""Help texts and labels in plain words; no table changes."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("messages_api", "0001_batches_files_and_bindings"),
    ]

    operations: ClassVar = [
        migrations.AlterField(
            model_name="batch",
            name="state",
            field=models.CharField(
                choices=[
                    ("creating", "being created"),
                    ("running", "running"),
                    ("settled", "settled"),
                    ("expired", "expired before its results were known"),
                ],
                default="creating",
                max_length=20,
            ),
        ),
        migrations.AlterField(
            model_name="binding",
            name="kind",
            field=models.CharField(
                choices=[("container", "container"), ("thread", "thread"), ("signature", "signature")], max_length=20
            ),
        ),
    ]
