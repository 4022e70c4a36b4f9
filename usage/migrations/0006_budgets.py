"""Budgets and limits, and what is kept of them."""

from __future__ import annotations

from typing import ClassVar

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
from django.db import migrations, models

import keys.patterns


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("keys", "0005_calendars"),
        ("usage", "0005_batches"),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="Limit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "model_patterns",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=200, validators=[keys.patterns.check]),
                        blank=True,
                        default=list,
                        help_text="Names and patterns (claude-*) of the models that it is for, separated by commas."
                        " Empty: all.",
                        size=None,
                        verbose_name="models",
                    ),
                ),
                ("active", models.BooleanField(default=True)),
                ("deleted_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "owner",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Case(
                            models.When(
                                customer__isnull=False,
                                then=django.db.models.expressions.CombinedExpression(
                                    models.F("customer"), "*", models.Value(4)
                                ),
                            ),
                            models.When(
                                team__isnull=False,
                                then=django.db.models.expressions.CombinedExpression(
                                    django.db.models.expressions.CombinedExpression(
                                        models.F("team"), "*", models.Value(4)
                                    ),
                                    "+",
                                    models.Value(1),
                                ),
                            ),
                            default=django.db.models.expressions.CombinedExpression(
                                django.db.models.expressions.CombinedExpression(
                                    models.F("virtual_key"), "*", models.Value(4)
                                ),
                                "+",
                                models.Value(2),
                            ),
                        ),
                        output_field=models.BigIntegerField(),
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("rpm", "requests a minute"),
                            ("input_tpm", "input tokens a minute"),
                            ("output_tpm", "output tokens a minute"),
                            ("parallel", "calls at once"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "rate",
                    models.PositiveBigIntegerField(
                        help_text="Per minute; of calls at once, how many.",
                        validators=[django.core.validators.MinValueValidator(1)],
                    ),
                ),
                (
                    "burst",
                    models.PositiveBigIntegerField(
                        blank=True,
                        help_text="What may come at once. Empty: a tenth of the rate.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(1)],
                    ),
                ),
                (
                    "count_cached",
                    models.BooleanField(default=False, help_text="Input tokens read from caches count, too."),
                ),
                (
                    "customer",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="%(class)ss",
                        to="keys.customer",
                    ),
                ),
                (
                    "provider_key",
                    models.ForeignKey(
                        blank=True,
                        help_text="Only the virtual key's calls that go to this provider key. Empty: all.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="keys.providerkey",
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="%(class)ss",
                        to="keys.team",
                    ),
                ),
                (
                    "virtual_key",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="%(class)ss",
                        to="keys.virtualkey",
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Retained",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("retained_at", models.DateTimeField(db_index=True)),
            ],
            options={
                "verbose_name": "retained amount",
            },
        ),
        migrations.CreateModel(
            name="Budget",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "model_patterns",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=200, validators=[keys.patterns.check]),
                        blank=True,
                        default=list,
                        help_text="Names and patterns (claude-*) of the models that it is for, separated by commas."
                        " Empty: all.",
                        size=None,
                        verbose_name="models",
                    ),
                ),
                ("active", models.BooleanField(default=True)),
                ("deleted_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "owner",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Case(
                            models.When(
                                customer__isnull=False,
                                then=django.db.models.expressions.CombinedExpression(
                                    models.F("customer"), "*", models.Value(4)
                                ),
                            ),
                            models.When(
                                team__isnull=False,
                                then=django.db.models.expressions.CombinedExpression(
                                    django.db.models.expressions.CombinedExpression(
                                        models.F("team"), "*", models.Value(4)
                                    ),
                                    "+",
                                    models.Value(1),
                                ),
                            ),
                            default=django.db.models.expressions.CombinedExpression(
                                django.db.models.expressions.CombinedExpression(
                                    models.F("virtual_key"), "*", models.Value(4)
                                ),
                                "+",
                                models.Value(2),
                            ),
                        ),
                        output_field=models.BigIntegerField(),
                    ),
                ),
                (
                    "unit",
                    models.CharField(choices=[("usd", "USD"), ("tokens", "tokens")], default="usd", max_length=10),
                ),
                (
                    "amount",
                    models.DecimalField(
                        decimal_places=12,
                        default=0,
                        max_digits=30,
                        validators=[django.core.validators.MinValueValidator(0)],
                    ),
                ),
                (
                    "period",
                    models.CharField(
                        choices=[
                            ("minute", "minute"),
                            ("hour", "hour"),
                            ("day", "day"),
                            ("week", "week"),
                            ("month", "month"),
                            ("quarter", "quarter"),
                            ("year", "year"),
                            ("none", "none (prepaid)"),
                        ],
                        default="month",
                        max_length=10,
                    ),
                ),
                (
                    "rolling",
                    models.BooleanField(
                        default=False,
                        help_text="Windows begin with the first use, instead of with the customer's calendar.",
                    ),
                ),
                (
                    "enforcement",
                    models.CharField(
                        choices=[
                            ("hard", "hard: refuse what may not fit"),
                            ("soft", "soft: alert and let pass"),
                            ("expected", "expected: hold what such calls have cost lately, refuse what may not fit"),
                        ],
                        default="hard",
                        max_length=10,
                    ),
                ),
                (
                    "thresholds",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.PositiveSmallIntegerField(
                            validators=[django.core.validators.MinValueValidator(1)]
                        ),
                        blank=True,
                        default=list,
                        help_text="Percentages of the amount at which to alert: 50, 80, 100.",
                        size=None,
                    ),
                ),
                (
                    "customer",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="%(class)ss",
                        to="keys.customer",
                    ),
                ),
                (
                    "provider_key",
                    models.ForeignKey(
                        blank=True,
                        help_text="Only the virtual key's calls that go to this provider key. Empty: all.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="keys.providerkey",
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="%(class)ss",
                        to="keys.team",
                    ),
                ),
                (
                    "virtual_key",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="%(class)ss",
                        to="keys.virtualkey",
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("start", models.DateTimeField()),
                ("threshold", models.PositiveSmallIntegerField(help_text="percent")),
                ("spent", models.DecimalField(decimal_places=12, max_digits=30)),
                ("amount", models.DecimalField(decimal_places=12, max_digits=30)),
                ("at", models.DateTimeField()),
                ("delivered_at", models.DateTimeField(null=True)),
                (
                    "budget",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="alerts",
                        to="usage.budget",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="LimitState",
            fields=[
                (
                    "limit",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="state",
                        serialize=False,
                        to="usage.limit",
                    ),
                ),
                ("full_at", models.DateTimeField()),
                ("running", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Override",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("reason", models.CharField(max_length=200)),
                ("author", models.CharField(max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "amount",
                    models.DecimalField(
                        decimal_places=12, max_digits=30, validators=[django.core.validators.MinValueValidator(0)]
                    ),
                ),
                ("starts_at", models.DateTimeField()),
                ("until", models.DateTimeField()),
                (
                    "windows",
                    models.PositiveIntegerField(blank=True, help_text="For so many windows it was meant.", null=True),
                ),
                (
                    "budget",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="overrides", to="usage.budget"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="TopUp",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("reason", models.CharField(max_length=200)),
                ("author", models.CharField(max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("amount", models.DecimalField(decimal_places=12, max_digits=30)),
                (
                    "budget",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="top_ups", to="usage.budget"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Window",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "budget_id", "start", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("start", models.DateTimeField()),
                ("until", models.DateTimeField(null=True)),
                ("spent", models.DecimalField(decimal_places=12, max_digits=30)),
                ("held", models.DecimalField(decimal_places=12, max_digits=30)),
                (
                    "budget",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="windows",
                        to="usage.budget",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="budget",
            index=models.Index(condition=models.Q(("active", True)), fields=["owner"], name="usage_budget_owner"),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("customer__isnull", False), ("team__isnull", True), ("virtual_key__isnull", True)),
                    models.Q(("customer__isnull", True), ("team__isnull", False), ("virtual_key__isnull", True)),
                    models.Q(("customer__isnull", True), ("team__isnull", True), ("virtual_key__isnull", False)),
                    _connector="OR",
                ),
                name="usage_budget_one_owner",
                violation_error_message="It belongs to exactly one customer, team or virtual key.",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(("provider_key__isnull", True), ("virtual_key__isnull", False), _connector="OR"),
                name="usage_budget_provider_key",
                violation_error_message="Only what belongs to a virtual key can be for one of its provider keys.",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(("deleted_at__isnull", True), ("active", False), _connector="OR"),
                name="usage_budget_deleted",
                violation_error_message="What is deleted is not active.",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("unit__in", ["usd", "tokens"]),
                    ("period__in", ["minute", "hour", "day", "week", "month", "quarter", "year", "none"]),
                    ("enforcement__in", ["hard", "soft", "expected"]),
                    models.Q(("period", "none"), ("rolling", True), _negated=True),
                ),
                name="usage_budget_kind",
                violation_error_message="A prepaid budget has no windows that could roll.",
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(fields=("budget", "start", "threshold"), name="usage_alert_once"),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(condition=models.Q(("delivered_at", None)), fields=["id"], name="usage_alert_untold"),
        ),
        migrations.AddIndex(
            model_name="limit",
            index=models.Index(condition=models.Q(("active", True)), fields=["owner"], name="usage_limit_owner"),
        ),
        migrations.AddConstraint(
            model_name="limit",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("customer__isnull", False), ("team__isnull", True), ("virtual_key__isnull", True)),
                    models.Q(("customer__isnull", True), ("team__isnull", False), ("virtual_key__isnull", True)),
                    models.Q(("customer__isnull", True), ("team__isnull", True), ("virtual_key__isnull", False)),
                    _connector="OR",
                ),
                name="usage_limit_one_owner",
                violation_error_message="It belongs to exactly one customer, team or virtual key.",
            ),
        ),
        migrations.AddConstraint(
            model_name="limit",
            constraint=models.CheckConstraint(
                condition=models.Q(("provider_key__isnull", True), ("virtual_key__isnull", False), _connector="OR"),
                name="usage_limit_provider_key",
                violation_error_message="Only what belongs to a virtual key can be for one of its provider keys.",
            ),
        ),
        migrations.AddConstraint(
            model_name="limit",
            constraint=models.CheckConstraint(
                condition=models.Q(("deleted_at__isnull", True), ("active", False), _connector="OR"),
                name="usage_limit_deleted",
                violation_error_message="What is deleted is not active.",
            ),
        ),
        migrations.AddConstraint(
            model_name="limit",
            constraint=models.CheckConstraint(condition=models.Q(("rate__gt", 0)), name="usage_limit_rate"),
        ),
        migrations.AddIndex(
            model_name="override",
            index=models.Index(fields=["budget", "until"], name="usage_override_current"),
        ),
        migrations.AddConstraint(
            model_name="override",
            constraint=models.CheckConstraint(
                condition=models.Q(("until__gt", models.F("starts_at"))),
                name="usage_override_span",
                violation_error_message="It must end after it begins.",
            ),
        ),
        migrations.AddConstraint(
            model_name="topup",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount", 0), _negated=True),
                name="usage_topup_amount",
                violation_error_message="Nothing is no top-up.",
            ),
        ),
    ]
