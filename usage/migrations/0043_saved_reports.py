"""Saved reports, and the e-mails that send them. The audit log has no parameters of reports: they may name projects
and cost centres, which are labels."""

from __future__ import annotations

import datetime
from typing import ClassVar

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models.functions.datetime import Now

import keys.models.customers
from keys.audit.watched import Watched, unwatch, watch

TABLES = {
    "usage_savedreport": Watched(plain="owner_id name shared", secrets="query"),
    "usage_reportschedule": Watched(plain="report_id every at zone", belongs={"report_id": "usage_savedreport"}),
    "usage_reportrecipient": Watched(plain="schedule_id person_id", belongs={"schedule_id": "usage_reportschedule"}),
}
ID = models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


def to(model: str, related_name: str = "+") -> models.ForeignKey:  # type: ignore[type-arg]
    return models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name=related_name, to=model)


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("usage", "0041_lists_by_rare_values"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="SavedReport",
            fields=[
                ("id", ID),
                ("owner", to(settings.AUTH_USER_MODEL)),
                ("name", models.CharField(max_length=100)),
                ("query", models.TextField(max_length=4000)),
                (
                    "shared",
                    models.BooleanField(
                        db_default=False,
                        default=False,
                        help_text="Everyone who may see the customers, teams and keys that it names finds it in their "
                        "list. Each person sees only what they may see.",
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={
                "ordering": ["pk"],
                "default_permissions": ("view", "delete"),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("owner", "name"),
                        name="usage_savedreport_name",
                        violation_error_message="You have a report of this name: choose another name.",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ReportSchedule",
            fields=[
                ("id", ID),
                (
                    "report",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="schedule", to="usage.savedreport"
                    ),
                ),
                (
                    "every",
                    models.CharField(
                        choices=[
                            ("day", "each day"),
                            ("week", "each Monday"),
                            ("month", "on the first of each month"),
                        ],
                        max_length=10,
                    ),
                ),
                ("at", models.TimeField(default=datetime.time(7, 0), help_text="The time of day.")),
                (
                    "zone",
                    models.CharField(
                        max_length=64, validators=[keys.models.customers.check_time_zone], verbose_name="time zone"
                    ),
                ),
                ("next_at", models.DateTimeField(db_index=True, editable=False)),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("every__in", ["day", "week", "month"])), name="usage_reportschedule_every"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ReportRecipient",
            fields=[
                ("id", ID),
                ("schedule", to("usage.reportschedule", "recipients")),
                ("person", to(settings.AUTH_USER_MODEL)),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(fields=("schedule", "person"), name="usage_reportrecipient_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="ReportDelivery",
            fields=[
                ("id", ID),
                ("report", to("usage.savedreport", "deliveries")),
                ("person", to(settings.AUTH_USER_MODEL)),
                ("due_at", models.DateTimeField(help_text="The time of the schedule that it is for.")),
                ("created_at", models.DateTimeField()),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("next_at", models.DateTimeField(help_text="Not to be tried before.")),
                ("delivered_at", models.DateTimeField(null=True)),
                ("given_up_at", models.DateTimeField(null=True)),
                ("problem", models.CharField(blank=True, help_text="Why the last attempt failed.", max_length=200)),
            ],
            options={
                "default_permissions": (),
                "indexes": [
                    models.Index(
                        condition=models.Q(("delivered_at", None), ("given_up_at", None)),
                        fields=["next_at"],
                        name="usage_reportdelivery_due",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("report", "person", "due_at"), name="usage_reportdelivery_once")
                ],
            },
        ),
        migrations.RunSQL(watch(TABLES), unwatch(TABLES)),
    ]
