"""Admin pages for usage: rows of record to look at, and prices to add. Nothing here edits what has been recorded."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.forms import ChoiceField, ModelForm
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property

from keys import provider_kinds
from keys.lists import Listed, LookedAt
from usage import alert_admin, budget_admin, request_ids, retained_admin
from usage.models import Adjustment, Hold, LedgerEntry, Overrun, Price, Process, Refusal, RefusalCount, Rollup
from usage.price_flags import PRICE_FLAGS
from usage.pricing import WEB_SEARCH
from usage.tokens import TOKEN_COLUMNS

__all__ = ["alert_admin", "budget_admin", "retained_admin"]  # their pages are registered with these


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts up to a bound only: to count a table of millions takes longer than to look at it."""

    BOUND = 10_000

    @cached_property
    def count(self) -> int:
        """The number of rows, or the bound if there are more."""
        rows: Any = self.object_list
        return len(rows.order_by()[: self.BOUND].values_list("pk", flat=True))


class ReadOnlyAdmin(LookedAt):
    """Rows to look at. They are found by request id, in the form that callers see."""

    paginator = BoundedPaginator
    show_full_result_count = False
    actions = None
    list_per_page = 50
    request_id_field = "pk"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term:
            return queryset, False
        try:
            return queryset.filter(**{self.request_id_field: request_ids.parse(search_term)}), False
        except ValueError:
            return self.search_otherwise(queryset, search_term.strip()), False

    def search_otherwise(self, queryset: QuerySet[Any], text: str) -> QuerySet[Any]:
        """Rows for a text that is no request id of ours."""
        return queryset.none()

    @admin.display(description="request id")
    def request_id(self, row: Any) -> str:
        """The row's id as callers see it."""
        return request_ids.request_id(getattr(row, self.request_id_field))


class PriceFlagFilter(admin.SimpleListFilter):
    """By how a row came to its price. The flags are known: no search for them through the ledger."""

    title = "price"
    parameter_name = "price_flag"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return list(PRICE_FLAGS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(price_flag=self.value()) if self.value() else queryset


class ModelFilter(admin.SimpleListFilter):
    """By model: those of the last month, from the roll-ups."""

    title = "model"
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        lately = Rollup.objects.filter(bucket__gte=timezone.now() - timedelta(days=31))
        return [(model, model) for model in lately.order_by("model").values_list("model", flat=True).distinct()[:50]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(model=self.value()) if self.value() else queryset


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    """One call a row, the newest first."""

    empty = "There is no row yet: every call that reaches a provider has one."
    list_display = (
        "request_id",
        "admitted_at",
        "virtual_key",
        "model",
        "status",
        "cost_shown",
        "input_tokens",
        "output_tokens",
        "estimated",
        "duration_ms",
    )
    list_select_related = ("virtual_key",)
    list_filter = ("status", "estimated", PriceFlagFilter, ModelFilter, "provider_key")
    search_fields = ("id",)
    search_help_text = "A request id (req_bf_…) or the provider's request id, in full."
    ordering = ("-id",)
    fieldsets: ClassVar = [
        (None, {"fields": ("request_id", "provider_request_id", "status", "http_status", "error_type", "stop_reason")}),
        ("Who", {"fields": ("customer", "team", "virtual_key", "labels", "client_labels")}),
        (
            "What",
            {"fields": ("endpoint", "requested_model", "model", "provider", "provider_key", "stream", "attempts")},
        ),
        ("When", {"fields": ("admitted_at", "ended_at", "time_to_first_byte_ms", "duration_ms")}),
        ("Tokens", {"fields": (*TOKEN_COLUMNS, "iterations", "service_tier", "speed", "inference_geo", "estimated")}),
        ("Money", {"fields": ("cost", "currency", "price_version", "price_flag", "held")}),
    ]

    def search_otherwise(self, queryset: QuerySet[Any], text: str) -> QuerySet[Any]:
        return queryset.filter(provider_request_id=text)

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerEntry]:
        return super().get_queryset(request).select_related("virtual_key", "team", "customer", "provider_key")

    @admin.display(description="cost, USD", ordering="cost")
    def cost_shown(self, row: LedgerEntry) -> str:
        """To a hundredth of a cent."""
        return f"{row.cost:,.4f}"


@admin.register(Adjustment)
class AdjustmentAdmin(ReadOnlyAdmin):
    """What turned out differently, as differences."""

    request_id_field = "entry_id"
    empty = "There is no adjustment: nothing turned out to be different from its row."
    list_display = ("request_id", "created_at", "reason", "author", "output_tokens", "cost")
    list_filter = ("reason",)
    search_fields = ("entry_id",)
    search_help_text = "The request id (req_bf_…) of the call."
    ordering = ("-id",)


@admin.register(Refusal)
class RefusalAdmin(ReadOnlyAdmin):
    """Calls that we refused, kept for some days."""

    empty = "Nobody was refused lately."
    list_display = (
        "request_id",
        "refused_at",
        "http_status",
        "error_type",
        "reason",
        "virtual_key",
        "credential_hint",
        "requested_model",
    )
    list_select_related = ("virtual_key",)
    list_filter = ("reason", "http_status")
    search_fields = ("id",)
    search_help_text = "A request id (req_bf_…), in full."
    ordering = ("-refused_at",)


@admin.register(RefusalCount)
class RefusalCountAdmin(ReadOnlyAdmin):
    """How often a reason struck a key in a minute."""

    empty = "Nobody was refused lately."
    list_display = ("minute", "reason", "virtual_key", "count")
    list_select_related = ("virtual_key",)
    list_filter = ("reason",)
    ordering = ("-minute",)


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    """Calls under way, and what is held for them."""

    empty = "No call is under way."
    list_display = ("request_id", "admitted_at", "virtual_key", "requested_model", "provider", "ceiling", "process")
    list_select_related = ("virtual_key",)
    search_fields = ("id",)
    search_help_text = "A request id (req_bf_…), in full."
    ordering = ("admitted_at",)


@admin.register(Overrun)
class OverrunAdmin(ReadOnlyAdmin):
    """Calls that cost more than was held for them, the latest first."""

    empty = "No call cost more than was held for it."
    list_display = ("request_id", "at", "virtual_key", "cost", "held")
    list_select_related = ("virtual_key",)
    search_fields = ("call",)
    search_help_text = "A request id (req_bf_…), in full."
    ordering = ("-at",)


@admin.register(Process)
class ProcessAdmin(ReadOnlyAdmin):
    """Web processes that are alive, and how many calls each has under way."""

    empty = "No process is known: start the gateway."
    list_display = ("host", "pid", "started_at", "heartbeat_at", "holds")
    ordering = ("host", "pid")

    @admin.display(description="calls under way")
    def holds(self, row: Process) -> int:
        """How many calls it holds money for."""
        return Hold.objects.filter(process=row.id).count()


class PriceForm(ModelForm):  # type: ignore[type-arg]
    """A new price. It can't reach back: what was recorded stays as it was priced."""

    provider = ChoiceField(choices=lambda: [("", "any"), *provider_kinds.choices()], required=False)

    class Meta:
        model = Price
        fields = (
            "provider",
            "model",
            "valid_from",
            "input",
            "output",
            "cache_read",
            "cache_write_5m",
            "cache_write_1h",
            "web_search",
            "note",
        )

    def clean_valid_from(self) -> datetime:
        """The moment it is to win from, no earlier than now; that the form was open for a while is no mistake.

        Raises:
            ValidationError: it is more than a day ago.
        """
        now = timezone.now()
        given: datetime = self.cleaned_data["valid_from"] or now
        if given < now - timedelta(days=1):
            raise ValidationError("A price can't reach back: give a time from now on.")
        return max(given, now)


@admin.register(Price)
class PriceAdmin(Listed):
    """Our own prices. A row is never edited once it is valid: a newer one takes over."""

    form = PriceForm
    empty = "List prices are in force: add prices of your own, negotiated ones or those of private models."
    list_display = ("model", "provider_shown", "valid_from", "input", "output", "cache_read", "web_search", "note")
    list_filter = ("provider",)
    search_fields = ("model", "note")
    actions = None

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or obj.valid_from > timezone.now())

    def has_delete_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_delete_permission(request, obj) and obj is not None and obj.valid_from > timezone.now()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = {"web_search": WEB_SEARCH, "valid_from": timezone.now().replace(microsecond=0)}
        return initial | super().get_changeform_initial_data(request)

    @admin.display(description="provider", ordering="provider")
    def provider_shown(self, row: Price) -> str:
        """Its provider, or that it is for any."""
        return row.provider or "any"
