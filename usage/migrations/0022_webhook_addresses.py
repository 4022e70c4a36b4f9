"""Where webhooks lead to is asked; of those that are there it was not. Deliveries no more say what answered there."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0021_doubtful_usage")]
    operations: ClassVar = [
        migrations.AddField(
            "alerttarget",
            "predates_address_checks",
            models.BooleanField(db_default=True, default=True, editable=False),
        ),
        migrations.AlterField(
            "alerttarget",
            "predates_address_checks",
            models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.RunSQL(
            "UPDATE usage_delivery SET problem = 'failed' WHERE problem ~ '^it (answers|can''t be reached)'",
            migrations.RunSQL.noop,
        ),
    ]
