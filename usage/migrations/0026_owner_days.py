"""For the pages of one customer, team or key: what each uses each day, indexes for refusals, and when each credential
was last used."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models

# What is rolled up already. The task that rolls up waits for the table's lock.
BACKFILL = """
LOCK TABLE usage_rollup IN SHARE MODE;
INSERT INTO usage_ownerday (owner, day, model, calls, failed_calls, cost, input_tokens, output_tokens)
SELECT o.owner, (r.bucket AT TIME ZONE 'UTC')::date, r.model, sum(r.calls),
    coalesce(sum(r.calls) FILTER (WHERE r.status <> 'completed'), 0), sum(r.cost), sum(r.input_tokens
        + r.cache_read_input_tokens + r.cache_creation_5m_input_tokens + r.cache_creation_1h_input_tokens),
    sum(r.output_tokens)
FROM usage_rollup r CROSS JOIN LATERAL (
    VALUES (r.customer_id * 4), (r.team_id * 4 + 1), (r.virtual_key_id * 4 + 2)) AS o (owner)
WHERE o.owner IS NOT NULL GROUP BY 1, 2, 3;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0025_audit_log")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="OwnerDay",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "owner", "day", "model", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("owner", models.BigIntegerField()),
                ("day", models.DateField()),
                ("model", models.TextField()),
                ("calls", models.BigIntegerField()),
                ("failed_calls", models.BigIntegerField()),
                ("cost", models.DecimalField(decimal_places=12, max_digits=30)),
                ("input_tokens", models.BigIntegerField()),
                ("output_tokens", models.BigIntegerField()),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="CredentialUse",
            fields=[
                ("credential", models.BigIntegerField(primary_key=True, serialize=False)),
                ("used_at", models.DateTimeField()),
                ("address", models.TextField()),
            ],
            options={"default_permissions": ()},
        ),
        migrations.RunSQL(BACKFILL, migrations.RunSQL.noop),
        migrations.AddIndex(
            model_name="refusal",
            index=models.Index(fields=["virtual_key", "refused_at"], name="usage_refusal_of_key"),
        ),
        migrations.AddIndex(
            model_name="refusal",
            index=models.Index(fields=["reason", "refused_at"], name="usage_refusal_by_reason"),
        ),
    ]
