"""Admin lists that use the page's width: filters stand above the list, and an empty list says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.paginator import Paginator
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.text import capfirst

from keys import names, plain_values, viewer
from keys.cards import CardSet
from keys.errors import Unusable
from keys.row_versions import STALE, Versioned

# Real searches are shorter. PostgreSQL compares each word with each field, and would plan for hours if there were many.
LONGEST_TERM = 250
# Look-ups whose patterns PostgreSQL may take as long to parse.
PATTERNS = ("regex", "iregex")
# The attribute of a request whose form was refused when it was saved.
REFUSAL = "refused_when_saved"


class Listed(Versioned):
    """The base class of the gateway's admin pages."""

    change_list_template = "admin/listed/change_list.html"
    # The heading of the list; empty: the plural of the model's name.
    title = ""
    # One row and several, as the count below the list calls them; empty: by the model's name.
    rows: tuple[str, ...] = ()
    # The heading of the form that adds a row; empty: Django's.
    title_to_add = ""
    # A sentence above the list, such as the unit of its numbers.
    about = ""
    # Shown in place of an empty list: what the list shows, and how rows get into it.
    empty = "There is nothing here yet."

    class Media:
        css: ClassVar = {"all": ["keys/lists.css"]}
        js: ClassVar = ["keys/lists.js"]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Show filters as menus, and the count as `show_count` writes it.

        Raises:
            IncorrectLookupParameters: a filter has a value that PostgreSQL takes in no text.
        """
        if any("\0" in value for _, values in request.GET.lists() for value in values):
            raise IncorrectLookupParameters
        changelist = super().get_changelist_instance(request)
        changelist.title = self.title or capfirst(str(self.opts.verbose_name_plural))
        for spec in changelist.filter_specs:
            spec.template = getattr(spec, "own_template", "admin/listed/filter.html")
        show_count(changelist)
        return changelist

    def heading(self, row: Any) -> str:
        """The heading of the page of a row."""
        return str(row)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row = kwargs.get("obj")
        if row is not None:
            context |= {"title": self.heading(row), "subtitle": None}
        elif self.title_to_add:
            context["title"] = self.title_to_add
        plain_values.put_into(context["adminform"], self.model)
        return super().render_change_form(request, context, *args, **kwargs)

    def get_inline_formsets(self, request: HttpRequest, *args: Any, **kwargs: Any) -> list[Any]:
        return [CardSet(each) for each in super().get_inline_formsets(request, *args, **kwargs)]

    def render_delete_form(self, request: HttpRequest, context: Any) -> Any:
        """Django's page, headed by what is deleted."""
        context["title"] = f"Delete the {self.opts.verbose_name} “{context['object']}”"
        return super().render_delete_form(request, context)

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
        """Show the form again if the row is refused only when it is saved: it passes a ceiling, or another person saved
        a conflicting row after the form was checked."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except Unusable as error:
            reason = str(error)
        except IntegrityError as error:
            if not names.is_taken(error):
                raise
            reason = "another one of this name already exists"
        # What was saved is rolled back. The second time, the form itself refuses.
        vars(request)[REFUSAL] = f"Nothing was saved: {reason}."
        return super().changeform_view(request, *args, **kwargs)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        reason = vars(request).get(REFUSAL) or vars(request).get(STALE)
        return refusing(form, reason) if reason else form


def refusing(form: Any, reason: str | list[str]) -> Any:
    """A class of forms that says this reason in place of being saved."""

    class Refusing(form):  # type: ignore[misc]
        def clean(self) -> Any:
            cleaned = super().clean()
            self.add_error(None, reason)
            return cleaned

    return Refusing


def show_count(changelist: Any) -> None:
    """Set the row count as people read it: `10,000+` if counting stopped at a limit."""
    capped = getattr(changelist.paginator, "is_capped", False)
    changelist.counted = f"{changelist.result_count:,}{'+' if capped else ''}"
    if capped:
        # Otherwise Django also shows the limit beside the search field, as if it were the total.
        changelist.full_result_count = changelist.result_count


class LookedAt(Listed):
    """A list for viewing only: people can't add, change or delete its rows."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts rows up to a bound: counting a table of millions takes longer than showing one page of it."""

    BOUND = 10_000

    @cached_property
    def counted(self) -> int:
        """The number of rows; one more than the bound if there are more."""
        rows: Any = self.object_list
        return len(rows.order_by()[: self.BOUND + 1].values_list("pk", flat=True))

    @property
    def count(self) -> int:
        """The number of rows that can be paged through."""
        return min(self.counted, self.BOUND)

    @property
    def is_capped(self) -> bool:
        """Whether the table has more rows than the bound."""
        return self.counted > self.BOUND


def column(name: str, heading: str) -> Callable[[Any], Any]:
    """A column for a field under another heading than the field's name. Whole numbers are in the viewer's locale."""

    @admin.display(description=heading, ordering=name)
    def shown(row: Any) -> Any:
        value = getattr(row, name)
        return "–" if value is None else viewer.number(value) if type(value) is int else value

    return shown
