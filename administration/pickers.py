"""Form fields that search for a row while a person types, instead of listing all rows of a table."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.db.models import Field, QuerySet

from keys import virtual_keys
from keys.models import VirtualKey


class Picker(forms.ModelChoiceField):  # type: ignore[type-arg]
    """A choice of one row of the model that a foreign key refers to. Django's own view answers the search."""

    def __init__(self, reference: Field[Any, Any], rows: QuerySet[Any], **options: Any) -> None:
        widget = AutocompleteSelect(reference, admin.site, attrs={"data-width": "100%"})
        super().__init__(rows, widget=widget, required=False, empty_label="any", **options)

    def label_from_instance(self, obj: Any) -> str:
        return virtual_keys.address(obj) if isinstance(obj, VirtualKey) else str(obj)
