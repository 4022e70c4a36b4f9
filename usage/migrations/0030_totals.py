"""Sums of all calls without their callers (usage/totals.py), and roll-ups of a customer or a team by their time."""

from __future__ import annotations

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

# What is rolled up already. The task that rolls up waits for the table's lock.
BACKFILL = """
LOCK TABLE usage_rollup IN SHARE MODE;
INSERT INTO usage_quartertotal (bucket, provider_key_id, status, calls, cost)
SELECT bucket, provider_key_id, status, sum(calls), sum(cost) FROM usage_rollup GROUP BY 1, 2, 3;
INSERT INTO usage_daytotal (bucket, provider_key_id, model, status, calls, estimated_calls, input_tokens, output_tokens,
    thinking_tokens, cache_read_input_tokens, cache_creation_5m_input_tokens, cache_creation_1h_input_tokens,
    web_search_requests, cost)
SELECT date_trunc('day', bucket, 'UTC'), provider_key_id, model, status, sum(calls), sum(estimated_calls),
    sum(input_tokens), sum(output_tokens), sum(thinking_tokens), sum(cache_read_input_tokens),
    sum(cache_creation_5m_input_tokens), sum(cache_creation_1h_input_tokens), sum(web_search_requests), sum(cost)
FROM usage_rollup GROUP BY 1, 2, 3, 4;
"""


def to(model: str, null: bool = False) -> models.ForeignKey[object]:
    return models.ForeignKey(
        db_constraint=False,
        db_index=False,
        null=null,
        on_delete=django.db.models.deletion.DO_NOTHING,
        related_name="+",
        to=model,
    )


STATUS = models.CharField(
    choices=[
        ("completed", "completed"),
        ("refused_by_provider", "refused by provider"),
        ("failed", "failed"),
        ("client_disconnected", "client disconnected"),
        ("interrupted", "interrupted"),
    ],
    max_length=30,
)
TOKENS = (
    "input_tokens",
    "output_tokens",
    "thinking_tokens",
    "cache_read_input_tokens",
    "cache_creation_5m_input_tokens",
    "cache_creation_1h_input_tokens",
    "web_search_requests",
)


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0022_key_search"), ("usage", "0029_workers")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="QuarterTotal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("bucket", models.DateTimeField()),
                ("provider_key", to("keys.providerkey", null=True)),
                ("status", STATUS),
                ("calls", models.BigIntegerField()),
                ("cost", models.DecimalField(decimal_places=12, max_digits=30)),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="DayTotal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                *((name, models.BigIntegerField(default=0)) for name in TOKENS),
                ("cost", models.DecimalField(decimal_places=12, default=0, max_digits=30)),
                ("bucket", models.DateTimeField()),
                ("provider_key", to("keys.providerkey", null=True)),
                ("model", models.TextField()),
                ("status", STATUS.clone()),
                ("calls", models.BigIntegerField(default=0)),
                ("estimated_calls", models.BigIntegerField(default=0)),
            ],
            options={"default_permissions": ()},
        ),
        migrations.RunSQL(BACKFILL, migrations.RunSQL.noop),
        migrations.AddConstraint(
            "quartertotal",
            models.UniqueConstraint(
                fields=("bucket", "provider_key", "status"), name="usage_quartertotal_cell", nulls_distinct=False
            ),
        ),
        migrations.AddConstraint(
            "daytotal",
            models.UniqueConstraint(
                fields=("bucket", "provider_key", "model", "status"), name="usage_daytotal_cell", nulls_distinct=False
            ),
        ),
        migrations.AddIndex(
            "quartertotal", models.Index(fields=["provider_key", "bucket"], name="usage_quartertotal_provider")
        ),
        migrations.AddIndex("rollup", models.Index(fields=["customer", "bucket"], name="usage_rollup_of_customer")),
        migrations.AddIndex("rollup", models.Index(fields=["team", "bucket"], name="usage_rollup_of_team")),
        # The overview looks at the budgets of customers and teams before those of keys.
        migrations.RunSQL(
            "CREATE INDEX usage_budget_looked_at ON usage_budget (virtual_key_id NULLS FIRST, id) WHERE active",
            "DROP INDEX usage_budget_looked_at",
        ),
        # The indexes above, or those of the totals, do what these did.
        migrations.AlterField("rollup", "customer", to("keys.customer")),
        migrations.AlterField("rollup", "team", to("keys.team", null=True)),
        migrations.AlterField("rollup", "provider_key", to("keys.providerkey", null=True)),
    ]
