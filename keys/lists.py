"""Lists in the admin with room for their columns: filters above them, and a word on what to do where one is empty."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect

from keys import names
from keys.errors import Unusable

# Nothing that is looked for is longer. Of many words, each is compared with each field, and PostgreSQL plans for hours.
LONGEST_TERM = 250
# Look-ups whose patterns may take PostgreSQL as long to read.
PATTERNS = ("regex", "iregex")


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

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if len(search_term) > LONGEST_TERM:
            return queryset.none(), False
        return super().get_search_results(request, queryset, search_term)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        if lookup.rpartition("__")[2] in PATTERNS:
            return False
        return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """What the form could not see is an answer, too: somebody else was faster."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except Unusable as error:
            reason = str(error)
        except IntegrityError as error:
            if not names.is_taken(error):
                raise
            reason = "there is another one of this name by now"
        self.message_user(request, f"Nothing was saved: {reason}.", messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())


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
