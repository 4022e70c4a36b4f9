"""How provider keys are called, what stands in for them, and names of our own for models."""

from __future__ import annotations

from typing import ClassVar

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import keys.patterns

FORWARD = """
CREATE TRIGGER keys_modelalias_revision AFTER INSERT OR UPDATE OR DELETE ON keys_modelalias
    FOR EACH STATEMENT EXECUTE FUNCTION keys_touch_catalogue();

-- Another secret or address deserves a try.
CREATE FUNCTION keys_end_cooldowns() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM keys_cooldown WHERE provider_key_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_providerkey_cooldown AFTER UPDATE ON keys_providerkey FOR EACH ROW
    WHEN ((OLD.provider, OLD.base_url, OLD.secret_ciphertext)
        IS DISTINCT FROM (NEW.provider, NEW.base_url, NEW.secret_ciphertext))
    EXECUTE FUNCTION keys_end_cooldowns();
"""

BACKWARD = """
DROP TRIGGER keys_providerkey_cooldown ON keys_providerkey;
DROP FUNCTION keys_end_cooldowns;
DROP TRIGGER keys_modelalias_revision ON keys_modelalias;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("keys", "0006_max_tokens"),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="ModelAlias",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=200, unique=True, validators=[keys.patterns.check_name])),
                (
                    "target",
                    models.CharField(
                        help_text="What it stands for: a model, or provider/model (anthropic/claude-haiku-4-5).",
                        max_length=200,
                        validators=[keys.patterns.check_name],
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "verbose_name_plural": "model aliases",
                "ordering": ["name"],
            },
        ),
        migrations.AddField(
            model_name="providerkey",
            name="between_bytes_seconds",
            field=models.FloatField(
                blank=True,
                help_text="Seconds between two pieces of an answer. Empty: the deployment's setting.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(0.1),
                    django.core.validators.MaxValueValidator(86400),
                ],
            ),
        ),
        migrations.AddField(
            model_name="providerkey",
            name="connect_seconds",
            field=models.FloatField(
                blank=True,
                help_text="Seconds to connect. Empty: the deployment's setting.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(0.1),
                    django.core.validators.MaxValueValidator(86400),
                ],
            ),
        ),
        migrations.AddField(
            model_name="providerkey",
            name="first_byte_seconds",
            field=models.FloatField(
                blank=True,
                help_text="Seconds from the end of a request to the first of its answer."
                " Empty: the deployment's setting.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(0.1),
                    django.core.validators.MaxValueValidator(86400),
                ],
            ),
        ),
        migrations.AddField(
            model_name="providerkey",
            name="retry_unanswered",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="The provider may bill such a call, so the first try is charged at its ceiling.",
                verbose_name="retry what was sent and never answered",
            ),
        ),
        migrations.AddField(
            model_name="providerkey",
            name="total_seconds",
            field=models.FloatField(
                blank=True,
                help_text="Seconds for a call, its answer included. Empty: the deployment's setting.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(0.1),
                    django.core.validators.MaxValueValidator(86400),
                ],
            ),
        ),
        migrations.AddField(
            model_name="virtualkey",
            name="fallback_models",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=200, validators=[keys.patterns.check_name]),
                blank=True,
                db_default=[],
                default=list,
                help_text="Models that answer in turn where the one that was asked for can't, separated by commas.",
                size=None,
            ),
        ),
        migrations.CreateModel(
            name="Cooldown",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("model", models.CharField(blank=True, max_length=200)),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("rate_limited", "rate limited"),
                            ("failing", "failing"),
                            ("refused", "its key or account is refused"),
                        ],
                        max_length=20,
                    ),
                ),
                ("http_status", models.PositiveSmallIntegerField(null=True)),
                ("strikes", models.PositiveIntegerField(default=0)),
                ("since", models.DateTimeField()),
                ("until", models.DateTimeField()),
                (
                    "provider_key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="cooldowns", to="keys.providerkey"
                    ),
                ),
            ],
            options={
                "ordering": ["provider_key__name", "model"],
                "constraints": [
                    models.UniqueConstraint(fields=("provider_key", "model"), name="keys_cooldown_once"),
                    models.CheckConstraint(
                        condition=models.Q(("reason__in", ["rate_limited", "failing", "refused"])),
                        name="keys_cooldown_reason",
                    ),
                ],
            },
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
