"""Admin lists of tables with hundreds of thousands of rows: no list counts them all, offers them all in a menu, or
joins them all before it shows a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.forms import Media
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from keys.admin_lists import BoundedPaginator, Listed
from keys.key_search import FOUND
from keys.pickers import PickerSelect


class FoundFirst(ChangeList):
    """A list that finds the ids of a page's rows before it joins other tables: PostgreSQL could join all rows first."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        ids = list(self.result_list.values_list("pk", flat=True))
        self.result_list = self.queryset.filter(pk__in=ids)[: len(ids)]  # the planner trusts a limit more than ids


class OwnPages(FoundFirst):
    """A list whose rows link to the pages that are made for them, instead of to their forms. Its page has a `row_page`:
    the name of the URL of a row's own page, which takes its id."""

    def url_for_result(self, result: Any) -> str:
        """The URL of a row's page."""
        model_admin: Any = self.model_admin
        return reverse(model_admin.row_page, args=[result.pk])


class LargeList(Listed):
    """A list that stays fast, however many rows its table has.

    Attributes:
        row_page: see `OwnPages`.
    """

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    row_page = ""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return OwnPages if self.row_page else FoundFirst

    @property
    def media(self) -> Media:
        """With what the pickers among the filters need."""
        media: Media = super().media
        for each in self.list_filter:
            if isinstance(each, tuple) and each[1] is PickerFilter:
                media += PickerSelect(self.model._meta.get_field(each[0]), self.admin_site).media
        return media

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The rows that the search finds, as ids: to sort and join all that fit before a page is cut off takes long."""
        found, _ = super().get_search_results(request, queryset, search_term)
        if not search_term:
            return found, False
        ids = list(found.order_by().values_list("pk", flat=True)[:FOUND])
        return queryset.filter(pk__in=ids), False


class PickerFilter(admin.FieldListFilter):
    """Filters by a row of another table, which is searched while a person types."""

    own_template = "admin/listed/picker.html"

    def __init__(
        self, field: Any, request: HttpRequest, params: Any, model: Any, model_admin: Any, field_path: str
    ) -> None:
        self.parameter = f"{field_path}__id__exact"
        super().__init__(field, request, params, model, model_admin, field_path)
        self.title = field.verbose_name
        self.chosen = self.used_parameters.get(self.parameter)
        self.select = PickerSelect(field, model_admin.admin_site, request.user, attrs={"data-width": "100%"})
        self.others = [
            (name, value)
            for name, values in request.GET.lists()
            for value in values
            if name not in (self.parameter, "p")
        ]

    def expected_parameters(self) -> list[str | None]:
        return [self.parameter]

    def has_output(self) -> bool:
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        """None: the template shows a field."""
        return iter(())

    @property
    def label_id(self) -> str:
        """The id of the field in the page."""
        return f"filter-{self.parameter}"

    @property
    def input(self) -> SafeString:
        """The field."""
        chosen = self.chosen[0] if isinstance(self.chosen, list) else self.chosen
        return self.select.render(self.parameter, chosen, attrs={"id": self.label_id})
