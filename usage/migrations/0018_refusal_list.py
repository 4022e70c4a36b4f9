"""One list of refusals: those that were counted are rows of it too."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models

# Which calls these were is not known: they have ids that nobody has seen, and no status.
MOVE = """
INSERT INTO usage_refusal (
    id, refused_at, http_status, error_type, reason, message, endpoint, credential_hint, virtual_key_id,
    requested_model, minute, count)
SELECT gen_random_uuid(), minute, 0, '', reason, '', '', '', virtual_key_id, '', minute, count FROM usage_refusalcount
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("usage", "0017_window_locks"),
    ]
    operations: ClassVar = [
        migrations.AddField("refusal", "facts", models.JSONField(null=True)),
        migrations.AddField("refusal", "minute", models.DateTimeField(null=True)),
        migrations.AddField("refusal", "count", models.BigIntegerField(default=1, db_default=1)),
        migrations.AddConstraint(
            "refusal",
            models.UniqueConstraint(
                fields=["minute", "reason", "virtual_key"],
                name="usage_refusal_counted",
                condition=models.Q(minute__isnull=False),
                nulls_distinct=False,
            ),
        ),
        migrations.RunSQL(MOVE, migrations.RunSQL.noop),
        migrations.DeleteModel("RefusalCount"),
    ]
