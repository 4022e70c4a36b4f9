"""Lists in the admin with room for their columns: filters above them, and a word on what to do where one is empty."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest


class Listed(admin.ModelAdmin):  # type: ignore[type-arg]
    """A page that has such a list."""

    change_list_template = "admin/listed/change_list.html"
    # Words above the list, such as the unit of its numbers.
    about = ""
    # What there would be to see, and how it comes about.
    empty = "There is nothing here yet."

    class Media:
        css: ClassVar = {"all": ["keys/lists.css"]}

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Filters as menus."""
        changelist = super().get_changelist_instance(request)
        for spec in changelist.filter_specs:
            spec.template = "admin/listed/filter.html"
        show_count(changelist)
        return changelist


def show_count(changelist: Any) -> None:
    """Say how many rows a list has as people read it: `10,000+` where they were not counted to the end."""
    capped = getattr(changelist.paginator, "is_capped", False)
    changelist.counted = f"{changelist.result_count:,}{'+' if capped else ''}"
    if capped:
        # Or else the bound is said beside the search field, too, as if it were their number.
        changelist.full_result_count = changelist.result_count


class LookedAt(Listed):
    """A list of rows that nobody makes, changes or deletes by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
