"""Filters of the list of audit events: by who acts, by table, by row and by time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from keys.audit.models import AuditEvent

KINDS = {
    "person": "a person",
    "token": "a person's API token",
    "command": "manage.py",
    "task": "a task",
    "sql": "SQL",
    "system": "the system",
    "visitor": "not signed in",
}
# Of these kinds, an event has the id of the user who acts.
BY_PEOPLE = ("person", "token")
DAYS = {"1": "the last 24 hours", "7": "the last 7 days", "31": "the last 31 days", "366": "the last year"}
RANGE = re.compile(r"(\d{4}-\d\d-\d\d)(?:\.\.(\d{4}-\d\d-\d\d))?")
# A row as the CSV file names it (keys_team:4), or by what it is (team 4).
ROW = re.compile(r"([a-z_]+):([0-9]+)")
NAMED_ROW = re.compile(r"([A-Za-z ]+?) #?([0-9]+)")
WATCHED = ("keys", "usage", "reconciliation", "auth", "administration", "mfa", "socialaccount")
HELP = "A row (team 4), a user's name, an address, a day (2026-11-29) or days (2026-11-01..2026-11-30)."


class WhoFilter(admin.SimpleListFilter):
    title = "who"
    parameter_name = "who"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return KINDS.items()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(actor_kind=self.value()) if self.value() else queryset


class TableFilter(admin.SimpleListFilter):
    """Filters by table. Listing the tables that events name would scan the log."""

    title = "kind of row"
    parameter_name = "table"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return sorted((model._meta.db_table, str(model._meta.verbose_name_plural)) for model in watched())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(table_name=self.value()) if self.value() else queryset


def watched() -> list[type[Model]]:
    """The models whose rows the log is about."""
    models = (model for label in WATCHED for model in apps.get_app_config(label).get_models(True))
    return [model for model in models if not model._meta.proxy and model._meta.managed]


def tables() -> dict[str, str]:
    """The watched tables by what a row of them is called, such as `team`."""
    return {str(model._meta.verbose_name).lower(): model._meta.db_table for model in watched()}


class TimeFilter(admin.SimpleListFilter):
    title = "time"
    parameter_name = "days"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return DAYS.items()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in DAYS:
            return queryset
        return queryset.filter(at__gte=timezone.now() - timedelta(days=int(str(self.value()))))


def of_row(events: QuerySet[AuditEvent], table: str, key: str) -> QuerySet[AuditEvent]:
    """The events of a row, and of rows that belong to it."""
    return events.filter(Q(table_name=table, object=key) | Q(about=f"{table}:{key}"))


def search(events: QuerySet[AuditEvent], text: str) -> QuerySet[AuditEvent]:
    """The events that a search text means; see `HELP`."""
    text = text.strip()
    if row := ROW.fullmatch(text):
        return of_row(events, row[1], row[2])
    if (row := NAMED_ROW.fullmatch(text)) and (table := tables().get(row[1].lower())):
        return of_row(events, table, row[2])
    if days := RANGE.fullmatch(text):
        try:
            first, last = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (days[1], days[2] or days[1]))
            return events.filter(at__gte=first, at__lt=last + timedelta(days=1))
        except (ValueError, OverflowError):
            return events.none()
    users = get_user_model()._default_manager.filter(username=text).values_list("pk", flat=True)
    return events.filter(Q(address=text) | Q(actor_kind__in=BY_PEOPLE, actor_id__in=list(users)))
