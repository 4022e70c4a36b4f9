"""Signs of life of Celery's processes."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0028_key_rules_and_expiries")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "kind",
                    models.CharField(
                        choices=[("worker", "worker"), ("beat", "beat (sends the periodic tasks)")], max_length=10
                    ),
                ),
                ("host", models.CharField(max_length=200)),
                ("pid", models.IntegerField()),
                ("started_at", models.DateTimeField(db_default=Now())),
                ("beat_at", models.DateTimeField(db_default=Now(), verbose_name="last sign of life")),
                ("task_at", models.DateTimeField(null=True, verbose_name="last task")),
                ("waited_ms", models.BigIntegerField(null=True)),
            ],
            options={"ordering": ["kind", "host", "pid"]},
        ),
    ]
