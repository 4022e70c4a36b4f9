"""Says in words what an event is about: `Budget of Acme / Research: amount $50.00 → $80.00`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models import BooleanField, Model

from keys import viewer
from keys.audit.actor import os_user
from keys.audit.models import AuditEvent, AuditName
from keys.audit.notes import USERS

ERASED = "(erased)"
HIDDEN = "(secret)"
# Letters of a value that are shown.
LENGTH = 200
# What a new row has where nothing was said.
EMPTY = (None, "", "false", "[]", "{}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S+")


class Words:
    """Words for some events. The names that they refer to are looked up together."""

    def __init__(self, events: Iterable[AuditEvent]) -> None:
        events = list(events)
        wanted = {name for event in events for name in _names(event.changes)}
        self.names = dict(AuditName.objects.filter(pk__in=wanted).values_list("pk", "value"))
        models = (model for model in apps.get_models(include_auto_created=True) if not model._meta.proxy)
        self.models = {model._meta.db_table: model for model in models}
        self.rows = self._rows(events)
        self.people = self._people({event.actor_id for event in events if event.actor_kind in ("person", "token")})

    def who(self, event: AuditEvent) -> str:
        """The actor: a person, a person's token, `manage.py set_budget (bob)`, a task, or the database's role."""
        match event.actor_kind:
            case "person":
                return self.people.get(event.actor_id, f"user {event.actor_id}")
            case "token":
                person = self.people.get(event.actor_id, f"user {event.actor_id}")
                return f"{person}, by API token {event.actor}"
            case "command":
                return f"manage.py {event.actor} ({os_user(event.actor_id or 0)})"
            case "task":
                return f"task {event.actor}"
            case "sql":
                return f"SQL ({event.actor})"
            case "system":
                return f"the system ({event.actor})"
            case "visitor":
                return "not signed in"
        return f"{event.actor_kind} {event.actor or event.actor_id or ''}".strip()

    def what(self, event: AuditEvent) -> str:
        """What was changed, from what to what."""
        changes = "; ".join(self._changes(event))
        action = "" if event.action == "changed" and changes else event.action
        return f"{self.title(event)}: " + " – ".join(part for part in (action, changes) if part)

    def title(self, event: AuditEvent) -> str:
        """The row: its kind, its owner or its name."""
        model = self.models.get(event.table_name)
        kind = str(model._meta.verbose_name) if model is not None else event.table_name
        kind = kind[:1].upper() + kind[1:]
        if not event.object:
            return kind
        if event.about:
            table, _, key = event.about.partition(":")
            owner = self._row(table, key)
            if owner is not None:
                return f"{kind} {event.object} of {owner._meta.verbose_name} {owner}"
            return f"{kind} {event.object} of {event.about}"
        row = self._row(event.table_name, event.object)
        return f"{kind} {event.object}" + (f" ({row})" if row is not None and event.table_name != USERS else "")

    def _changes(self, event: AuditEvent) -> Iterator[str]:
        model = self.models.get(event.table_name)
        labels = {field.column: str(field.verbose_name) for field in model._meta.concrete_fields} if model else {}
        for column, change in sorted(event.changes.items()):
            if event.action != "changed" and self._goes_without_saying(event, column, change):
                continue
            shown = [self._value(event, column, change[end]) for end in ("from", "to") if end in change]
            if shown == [HIDDEN]:
                continue
            if shown == [HIDDEN] * 2:
                shown = ["secret changed"]
            yield f"{labels.get(column, column)} {' → '.join(shown)}"

    def _goes_without_saying(self, event: AuditEvent, column: str, change: dict[str, Any]) -> bool:
        """Whether a value of a new or deleted row is its number, its owner, which the title names, empty, or the
        default of a switch."""
        field, value = self._field(event, column), next(iter(change.values()))
        related = field.related_model if field is not None else None
        refers = f"{related._meta.db_table}:{value}" if related is not None else ""
        usual = isinstance(field, BooleanField) and value == str(field.default).lower()
        return column == "id" or refers == (event.about or None) or usual or value in EMPTY

    def _field(self, event: AuditEvent, column: str) -> Any:
        model = self.models.get(event.table_name)
        return next((field for field in model._meta.concrete_fields if field.column == column), None) if model else None

    def _value(self, event: AuditEvent, column: str, value: Any) -> str:
        if isinstance(value, dict):
            return self.names.get(value["name"], ERASED) if "name" in value else HIDDEN
        if value is None or value == "":
            return "–"
        if column == "amount":
            value = self._amount(event, value)
        text, field = str(value), self._field(event, column)
        if isinstance(field, BooleanField):
            return {"true": "yes", "false": "no"}.get(text, text)
        if field is not None and field.choices:
            return str(dict(field.flatchoices).get(text, text))
        if field is not None and field.related_model is not None:
            return str(getattr(self._row(field.related_model._meta.db_table, text), "name", text))
        if MOMENT.fullmatch(text):
            return viewer.moment(datetime.fromisoformat(text))
        return text if len(text) <= LENGTH else text[: LENGTH - 1] + "…"

    def _amount(self, event: AuditEvent, text: str) -> str:
        row = self._row(event.table_name, event.object)
        unit = getattr(row, "unit", None) or getattr(getattr(row, "budget", None), "unit", None)
        try:
            amount = Decimal(text)
        except InvalidOperation:
            return text
        if unit == "usd" and amount == round(amount, 2):
            return f"${amount:,.2f}"
        return f"{amount.normalize():,f}"

    def _rows(self, events: list[AuditEvent]) -> dict[tuple[str, str], Model]:
        """The rows that words are made of, as they are now, by table and key: a query for each table."""
        wanted: dict[str, set[int]] = {}
        for event in events:
            abouts = [event.about.split(":", 1)] if event.about else []
            for table, key in [(event.table_name, event.object), *abouts, *self._related(event)]:
                if key.isdecimal():
                    wanted.setdefault(table, set()).add(int(key))
        found: dict[tuple[str, str], Model] = {}
        for table, keys in wanted.items():
            if (model := self.models.get(table)) is not None:
                rows = model._default_manager.filter(pk__in=keys)
                if "budget" in {field.name for field in model._meta.fields if field.is_relation}:
                    rows = rows.select_related("budget")
                found |= {(table, str(row.pk)): row for row in rows}
        return found

    def _related(self, event: AuditEvent) -> Iterator[tuple[str, str]]:
        """The rows that the values of an event refer to, for their names."""
        for column, change in event.changes.items():
            field = self._field(event, column)
            if field is not None and field.related_model is not None:
                yield from ((field.related_model._meta.db_table, str(value)) for value in change.values())

    def _row(self, table: str, key: str) -> Model | None:
        return self.rows.get((table, key))

    def _people(self, ids: set[int | None]) -> dict[int | None, str]:
        known: dict[int | None, str] = {}
        for row in AuditName.objects.filter(
            table_name=USERS, column_name="username", object__in=[str(each) for each in ids]
        ).order_by("pk"):
            known[int(row.object)] = row.value
        model = get_user_model()
        rows = model._default_manager.filter(pk__in=[each for each in ids if each])
        return known | dict(rows.values_list("pk", model.USERNAME_FIELD))


def _names(changes: Any) -> Iterator[int]:
    for change in changes.values():
        for value in change.values():
            if isinstance(value, dict) and "name" in value:
                yield value["name"]
