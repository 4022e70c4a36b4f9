"""Saved reports: a question of the usage report under a name, and the e-mails that send it.

What is saved are the parameters of the report's URL. A range with a name, such as `last_month`, stays relative.
"""

from __future__ import annotations

from datetime import time
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from keys.models import check_time_zone

LONGEST_QUERY = 4000


class SavedReport(models.Model):
    """A question under a name: of one person, or shared with everyone who may see what it names."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=100)
    query = models.TextField(max_length=LONGEST_QUERY)
    shared = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Everyone who may see the customers, teams and keys that it names finds it in their list. Each "
        "person sees only what they may see.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["pk"]
        default_permissions = ("view", "delete")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["owner", "name"],
                name="usage_savedreport_name",
                violation_error_message="You have a report of this name: choose another name.",
            )
        ]

    def __str__(self) -> str:
        return self.name


class Cadence(models.TextChoices):
    """How often a report is sent."""

    DAY = "day", "each day"
    WEEK = "week", "each Monday"
    MONTH = "month", "on the first of each month"


class ReportSchedule(models.Model):
    """When a saved report is sent. `next_at`: the next time (UTC)."""

    report = models.OneToOneField(SavedReport, on_delete=models.CASCADE, related_name="schedule")
    every = models.CharField(max_length=10, choices=Cadence)
    at = models.TimeField(default=time(7), help_text="The time of day.")
    zone = models.CharField("time zone", max_length=64, validators=[check_time_zone])
    next_at = models.DateTimeField(db_index=True, editable=False)

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(every__in=Cadence.values), name="usage_reportschedule_every")
        ]

    def __str__(self) -> str:
        return f"{self.get_every_display()} at {self.at:%H:%M} ({self.zone})"


class ReportRecipient(models.Model):
    """A person who gets a report by e-mail."""

    schedule = models.ForeignKey(ReportSchedule, on_delete=models.CASCADE, related_name="recipients")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["schedule", "person"], name="usage_reportrecipient_once")
        ]

    def __str__(self) -> str:
        return f"{self.person}"


class ReportDelivery(models.Model):
    """One e-mail to one person, for one time of a schedule: retried until it is delivered or given up."""

    report = models.ForeignKey(SavedReport, on_delete=models.CASCADE, related_name="deliveries")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    due_at = models.DateTimeField(help_text="The time of the schedule that it is for.")
    created_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(help_text="Not to be tried before.")
    delivered_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=200, blank=True, help_text="Why the last attempt failed.")

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["report", "person", "due_at"], name="usage_reportdelivery_once")
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["next_at"], name="usage_reportdelivery_due", condition=Q(delivered_at=None, given_up_at=None)
            )
        ]

    def __str__(self) -> str:
        return f"report {self.report_id} to {self.person_id} for {self.due_at:%Y-%m-%d %H:%M}"
