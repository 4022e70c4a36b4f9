"""Columns as people read them, on pages that show a row without a form: JSON in words, numbers without empty zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import AdminForm
from django.db.models import DecimalField, JSONField, Model
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from keys import viewer

NOTHING = "–"


def in_words(value: Any) -> SafeString | str:
    """JSON, a line for each member of an object and each item of a list: `project=atlas`."""
    if not value and value != 0:
        return NOTHING
    if isinstance(value, Mapping):
        lines = [f"{name}={_in_a_line(each)}" for name, each in value.items()]
    elif isinstance(value, list):
        lines = [_in_a_line(each) for each in value]
    else:
        return _in_a_line(value)
    return format_html_join("", '<span class="json-line">{}</span>', ((line,) for line in lines))


def as_number(value: Decimal | None) -> str:
    """A number in the viewer's locale, without the zeros that fill its column."""
    if value is None:
        return NOTHING
    plain = value.normalize()
    return viewer.number(plain, max(0, -int(plain.as_tuple().exponent)))


SHOWN: dict[type[Any], Callable[[Any], Any]] = {JSONField: in_words, DecimalField: as_number}


def _in_a_line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_in_a_line(each)}" for name, each in value.items()) or NOTHING
    if isinstance(value, list):
        return "; ".join(map(_in_a_line, value)) or NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return NOTHING if value is None or value == "" else str(value)


def put_into(form: AdminForm, model: type[Model]) -> None:
    """Have a page show its read-only columns as people read them: Django shows JSON, and numbers with all zeros."""
    columns = {
        each.name: _column(each.name, str(each.verbose_name), SHOWN[type(each)])
        for each in model._meta.fields
        if type(each) in SHOWN and each.name in form.readonly_fields
    }
    if columns:
        form.fieldsets = [
            (title, {**options, "fields": _put(options["fields"], columns)}) for title, options in form.fieldsets
        ]
        form.readonly_fields = _put(form.readonly_fields, columns)


def _put(fields: Any, columns: Mapping[str, Any]) -> list[Any]:
    """Fields, of which some are rows of fields, with these columns in place of their names."""
    return [_put(each, columns) if isinstance(each, list | tuple) else _instead(each, columns) for each in fields]


def _instead(field: Any, columns: Mapping[str, Any]) -> Any:
    return columns.get(field, field) if isinstance(field, str) else field


def _column(name: str, title: str, words: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @admin.display(description=title)
    def shown(row: Any) -> Any:
        return words(getattr(row, name))

    shown.__name__ = name  # the class and the help text of the column
    return shown
