"""Read-only admin pages for batches and files at providers, with a search by the provider's id or the request id."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from messages_api import refusal_admin
from messages_api.models import Batch, File
from usage.admin import ReadOnlyAdmin
from usage.cells import KEY_OWNER, money

__all__ = ["refusal_admin"]  # imported so that its page is registered


class StoredAdmin(ReadOnlyAdmin):
    provider_id_field = "pk"
    list_select_related = (*KEY_OWNER, "team__customer", "provider_key")

    def heading(self, row: Any) -> str:
        return str(row)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found = queryset.filter(**{self.provider_id_field: search_term.strip()}) if search_term else queryset
        if found.exists() or self.request_id_field == self.provider_id_field:
            return found, False
        return super().get_search_results(request, queryset, search_term)


@admin.register(Batch)
class BatchAdmin(StoredAdmin):
    """Message batches: their state, and what the budgets hold for them."""

    provider_id_field = "provider_batch_id"
    request_id_field = "id"
    search_fields = ("provider_batch_id",)
    search_help_text = "The provider's id (msgbatch_…), or the request id of the call that created the batch."
    empty = "There is no message batch yet."
    list_display = (
        "__str__",
        "called_with",
        "team",
        "state",
        "settled_requests",
        "requests",
        money("ceiling", "held"),
        "created_at",
    )
    list_filter = ("state", "created_at")


@admin.register(File)
class FileAdmin(StoredAdmin):
    """Files and their owners. The gateway doesn't store their contents."""

    request_id_field = "pk"
    search_fields = ("id",)
    search_help_text = "The provider's id (file_…)."
    empty = "There is no file yet."
    list_display = ("id", "team", "called_with", "provider_key", "created_at", "deleted_at")
    list_filter = ("created_at", ("deleted_at", admin.EmptyFieldListFilter))
    exclude = ("described",)
