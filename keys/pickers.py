"""Form fields that search for a row while a person types, instead of listing all rows of a table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.contrib.admin.widgets import AutocompleteSelect
from django.db.models import Field, QuerySet

from keys import virtual_keys
from keys.models import VirtualKey
from keys.visibility import visible

ID = re.compile(r"[0-9]{1,18}")


def limit(fields: Iterable[forms.Field | None], user: Any) -> None:
    """Have form fields offer, accept and name only the rows that a person may choose. Other fields stay as they are."""
    for field in fields:
        if isinstance(field, forms.ModelChoiceField) and field.queryset is not None:
            field.queryset = visible(user, field.queryset, "choose")


class PickerSelect(AutocompleteSelect):
    """Django's field for a search, which works without a form's field, too. A value that can't be an id shows as empty;
    a form's field refuses it.

    Args:
        user: whose choices these are; None: a form's field has them.
    """

    def __init__(self, reference: Field[Any, Any], site: AdminSite, user: Any = None, **options: Any) -> None:
        super().__init__(reference, site, **options)
        model: Any = reference.related_model
        rows = model._default_manager.none()
        if user is not None:
            rows = visible(user, model._default_manager.all(), "choose")
        self.choices = forms.ModelChoiceField(rows, required=False).choices

    def optgroups(self, name: str, value: Any, attrs: Any = None) -> Any:
        """The chosen row."""
        return super().optgroups(name, [each for each in value if ID.fullmatch(str(each))], attrs)


class Picker(forms.ModelChoiceField):  # type: ignore[type-arg]
    """A choice of one row of the model that a foreign key refers to. Django's own view answers the search.

    A form with pickers calls `limit` for its person.
    """

    def __init__(self, reference: Field[Any, Any], rows: QuerySet[Any], **options: Any) -> None:
        widget = PickerSelect(reference, admin.site, attrs={"data-width": "100%"})
        super().__init__(rows, widget=widget, required=False, empty_label="any", **options)

    def label_from_instance(self, obj: Any) -> str:
        return virtual_keys.address(obj) if isinstance(obj, VirtualKey) else str(obj)
