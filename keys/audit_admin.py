"""The read-only page of the audit log, its export, and the link to it on the page of a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import path, reverse

from keys.admin_lists import BoundedPaginator, LookedAt
from keys.audit import filters
from keys.audit.models import AuditEvent
from keys.audit.words import Words
from keys.exports import PAGE, Export
from keys.table_files import TableFile

HEADER = ("id", "time", "who", "address", "action", "table", "row", "what")


@admin.register(AuditEvent)
class AuditEventAdmin(LookedAt):
    """Events, latest first."""

    about = "Changes of the configuration, sign-ins and exports."
    title = "Audit log"
    empty = "Nothing has been changed yet."
    change_list_template = "admin/keys/auditevent/change_list.html"
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = None
    list_per_page = 50
    list_display = ("at", "who", "address", "what")
    list_display_links = None
    list_filter = (filters.WhoFilter, filters.TableFilter, filters.TimeFilter)
    search_fields = ("object",)
    search_help_text = filters.HELP
    ordering = ("-id",)
    sortable_by = ()

    def get_urls(self) -> list[Any]:
        export = self.admin_site.admin_view(self.export)
        return [path("export/", export, name="keys_auditevent_export"), *super().get_urls()]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return (filters.search(queryset, search_term) if search_term else queryset), False

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Look up the names of a whole page at once."""
        changelist = super().get_changelist_instance(request)
        changelist.result_list = list(changelist.result_list)
        words = Words(changelist.result_list)
        for event in changelist.result_list:
            vars(event)["words"] = words
        return changelist

    @admin.display(description="who")
    def who(self, event: AuditEvent) -> str:
        return _words(event).who(event)

    @admin.display(description="what")
    def what(self, event: AuditEvent) -> str:
        return _words(event).what(event)

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """The filtered list as CSV, oldest first."""
        if not self.asked(request, "export"):
            raise PermissionDenied
        try:
            events = super().get_changelist_instance(request).get_queryset(request).order_by("id")
        except IncorrectLookupParameters:
            raise Http404("The filter can't be read.") from None
        query = request.GET.urlencode() or None
        return Export(request, "keys_auditevent", TableFile("audit", HEADER), _pages(events), query=query)


def _pages(events: QuerySet[AuditEvent]) -> Iterator[list[tuple[Any, ...]]]:
    last, end = 0, AuditEvent.objects.values_list("id", flat=True).first() or 0
    while page := list(events.filter(id__gt=last, id__lte=end)[:PAGE]):
        last, words = page[-1].id, Words(page)
        yield [_cells(event, words) for event in page]


def _cells(event: AuditEvent, words: Words) -> tuple[Any, ...]:
    who, what = words.who(event), words.what(event)
    row = f"{event.table_name}:{event.object}"
    return event.id, event.at.isoformat(), who, event.address, event.action, event.table_name, row, what


def _words(event: AuditEvent) -> Words:
    found = vars(event).get("words")
    return found if isinstance(found, Words) else Words([event])


def history(request: HttpRequest, app_label: str, model_name: str, object_id: str) -> HttpResponse:
    """The page behind *History* on the page of a row: its events, for people who may view them, else Django's own."""
    for model, page in admin.site._registry.items():
        if (model._meta.app_label, model._meta.model_name) == (app_label, model_name):
            if not request.user.has_perm("keys.view_auditevent"):
                return page.history_view(request, object_id)
            row = f"{model._meta.db_table}:{unquote(object_id)}"
            return HttpResponseRedirect(f"{reverse('admin:keys_auditevent_changelist')}?{urlencode({'q': row})}")
    raise Http404
