"""Indexes by which lists find the few virtual keys that are revoked or paused, and a person's own ones."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models
from django.db.models.functions import Upper


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0023_demo_data")]

    operations: ClassVar = [
        migrations.AddIndex(
            model_name="virtualkey",
            index=models.Index(
                condition=models.Q(("revoked_at__isnull", False)), fields=["name", "-id"], name="keys_vk_revoked"
            ),
        ),
        migrations.AddIndex(
            model_name="virtualkey",
            index=models.Index(condition=models.Q(("active", False)), fields=["name", "-id"], name="keys_vk_paused"),
        ),
        migrations.AddIndex(model_name="virtualkey", index=models.Index(Upper("owner"), name="keys_vk_of_owner")),
    ]
