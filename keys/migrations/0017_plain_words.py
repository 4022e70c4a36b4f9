"""Help texts and labels in plain words; no table changes."""

from __future__ import annotations

from typing import ClassVar

import django.contrib.postgres.fields
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import migrations, models

import keys.patterns


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("keys", "0016_sign_ins_and_addresses"),
    ]

    operations: ClassVar = [
        migrations.AlterField(
            model_name="customer",
            name="language",
            field=models.CharField(
                choices=[
                    ("en", "English"),
                    ("de", "Deutsch"),
                    ("fr", "Français"),
                    ("es", "Español"),
                    ("it", "Italiano"),
                    ("pt", "Português"),
                    ("nl", "Nederlands"),
                    ("pl", "Polski"),
                    ("ja", "日本語"),
                    ("zh-hans", "简体中文"),
                ],
                db_default="en",
                default="en",
                help_text="Language in which a refusal by a budget or limit gives its reason.",
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="gateway",
            name="paused",
            field=models.BooleanField(default=False, help_text="Refuse every call until this is switched off."),
        ),
        migrations.AlterField(
            model_name="modellist",
            name="problem",
            field=models.CharField(blank=True, help_text="Why the last request for the list failed.", max_length=200),
        ),
        migrations.AlterField(
            model_name="providerkey",
            name="first_byte_seconds",
            field=models.FloatField(
                blank=True,
                help_text=(
                    "Seconds from the end of a request to the first byte of its answer. "
                    "Empty: the deployment's setting."
                ),
                null=True,
                validators=[MinValueValidator(0.1), MaxValueValidator(86_400)],
            ),
        ),
        migrations.AlterField(
            model_name="providerkey",
            name="project",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="The project that is billed, at clouds that have projects. Empty: the project of the secret.",
                max_length=100,
            ),
        ),
        migrations.AlterField(
            model_name="providerkey",
            name="retry_unanswered",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="The provider may bill such a request, so its first attempt is charged at its ceiling.",
                verbose_name="retry what was sent and never answered",
            ),
        ),
        migrations.AlterField(
            model_name="virtualkey",
            name="active",
            field=models.BooleanField(default=True, help_text="If switched off, its calls are refused."),
        ),
        migrations.AlterField(
            model_name="virtualkey",
            name="fallback_models",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=200, validators=[keys.patterns.check_name]),
                blank=True,
                db_default=[],
                default=list,
                help_text="Models to try in turn if the requested one can't answer, separated by commas.",
                size=None,
            ),
        ),
    ]
