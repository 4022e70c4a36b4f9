"""Form fields for choosing a virtual key. Two owners may use the same name, so each key is shown with its owner."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.db.models import QuerySet
from django.forms import ModelChoiceField

from keys import virtual_keys
from keys.models import VirtualKey


class VirtualKeyField(ModelChoiceField):  # type: ignore[type-arg]
    """A drop-down list of all virtual keys."""

    def label_from_instance(self, obj: VirtualKey) -> str:
        return virtual_keys.address(obj)


class Autocomplete(AutocompleteJsonView):
    """Suggestions while a person types."""

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        return rows.select_related("customer", "team") if rows.model is VirtualKey else rows

    def serialize_result(self, obj: Any, to_field_name: str) -> dict[str, str]:
        shown: dict[str, str] = super().serialize_result(obj, to_field_name)
        return shown | {"text": virtual_keys.address(obj)} if isinstance(obj, VirtualKey) else shown
