"""Form fields for choosing a virtual key. Two owners may use the same name, so each key is shown with its owner."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.db.models import QuerySet
from django.forms import ModelChoiceField
from django.http import HttpRequest

from keys import virtual_keys
from keys.admin_lists import LONGEST_TERM
from keys.models import VirtualKey
from keys.visibility import visible


class VirtualKeyField(ModelChoiceField):  # type: ignore[type-arg]
    """A drop-down list of all virtual keys."""

    def label_from_instance(self, obj: VirtualKey) -> str:
        return virtual_keys.address(obj)


class Autocomplete(AutocompleteJsonView):
    """Suggestions while a person types: rows that the person may choose, also of models whose pages stay closed."""

    def has_perm(self, request: HttpRequest, obj: Any = None) -> bool:
        opts = self.model_admin.opts
        return bool(request.user.has_perm(f"{opts.app_label}.choose_{opts.model_name}", obj))

    def process_request(self, request: HttpRequest) -> Any:
        """What is asked for. PostgreSQL takes no NUL in a text."""
        term, *others = super().process_request(request)
        return term.replace("\0", ""), *others

    def get_queryset(self) -> QuerySet[Any]:
        page = self.model_admin
        rows = visible(self.request.user, page.model._default_manager.all(), "choose")
        rows = rows.complex_filter(self.source_field.get_limit_choices_to())
        if order := page.get_ordering(self.request):
            rows = rows.order_by(*order)
        if rows.model is VirtualKey:
            rows = rows.filter(passthrough=False)
        if page.has_view_permission(self.request):
            rows, duplicates = page.get_search_results(self.request, rows, self.term)
            rows = rows.distinct() if duplicates else rows
        else:  # a search in other columns would reveal them
            rows = rows.filter(name__icontains=self.term[:LONGEST_TERM])
        return rows.select_related("customer", "team") if rows.model is VirtualKey else rows

    def serialize_result(self, obj: Any, to_field_name: str) -> dict[str, str]:
        shown: dict[str, str] = super().serialize_result(obj, to_field_name)
        return shown | {"text": virtual_keys.address(obj)} if isinstance(obj, VirtualKey) else shown
