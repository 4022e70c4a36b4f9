"""Says in words what an event is about: `Budget of Acme / Research: amount $50.00 → $80.00`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models import Model

from keys.audit.actor import os_user
from keys.audit.models import AuditEvent, AuditName
from keys.audit.notes import USERS

ERASED = "(erased)"
HIDDEN = "(secret)"
# Letters of a value that are shown.
LENGTH = 200


class Words:
    """Words for some events. The names that they refer to are looked up together."""

    def __init__(self, events: Iterable[AuditEvent]) -> None:
        events = list(events)
        wanted = {name for event in events for name in _names(event.changes)}
        self.names = dict(AuditName.objects.filter(pk__in=wanted).values_list("pk", "value"))
        self.models = {model._meta.db_table: model for model in apps.get_models(include_auto_created=True)}
        self.rows: dict[tuple[str, str], Model | None] = {}
        self._load(events)
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
            if column == "id" and event.action != "changed":
                continue
            shown = [self._value(event, column, change[end]) for end in ("from", "to") if end in change]
            if shown == [HIDDEN] * 2:
                shown = ["secret changed"]
            yield f"{labels.get(column, column)} {' → '.join(shown)}"

    def _value(self, event: AuditEvent, column: str, value: Any) -> str:
        if isinstance(value, dict):
            return self.names.get(value["name"], ERASED) if "name" in value else HIDDEN
        if value is None or value == "":
            return "–"
        if column == "amount":
            value = self._amount(event, value)
        text = str(value)
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

    def _load(self, events: list[AuditEvent]) -> None:
        """Look up the rows that the events are about, table by table."""
        wanted: dict[str, set[str]] = {}
        for event in events:
            owner, _, owner_key = event.about.partition(":")
            for table, key in ((event.table_name, event.object), (owner, owner_key)):
                if table in self.models and key.isdecimal():
                    wanted.setdefault(table, set()).add(key)
        for table, keys in wanted.items():
            found = self.models[table]._default_manager.in_bulk([int(key) for key in keys])
            self.rows |= {(table, key): found.get(int(key)) for key in keys}

    def _row(self, table: str, key: str) -> Model | None:
        """The row as it is now, if it still exists."""
        if (table, key) not in self.rows:
            model = self.models.get(table)
            found = model._default_manager.filter(pk=int(key)).first() if model and key.isdecimal() else None
            self.rows[table, key] = found
        return self.rows[table, key]

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
