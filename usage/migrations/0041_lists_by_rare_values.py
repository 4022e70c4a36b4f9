"""Indexes by which lists of budgets and limits find the few rows with a rare value among many."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models

BY = (("budget", "period"), ("budget", "unit"), ("budget", "enforcement"), ("limit", "kind"))


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0038_levels")]

    operations: ClassVar = [
        *(
            migrations.AddIndex(
                model_name=model,
                index=models.Index(condition=models.Q(("active", False)), fields=["id"], name=f"usage_{model}_off"),
            )
            for model in ("budget", "limit")
        ),
        *(
            migrations.AddIndex(
                model_name=model, index=models.Index(fields=[field, "id"], name=f"usage_{model}_{field}")
            )
            for model, field in BY
        ),
    ]
