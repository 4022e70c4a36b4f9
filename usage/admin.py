"""Read-only admin pages for usage: ledger rows, adjustments, holds, overruns, free calls and processes."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from keys import viewer
from keys.admin_lists import BoundedPaginator, LookedAt, column
from keys.badges import state_badge
from usage import (
    alert_admin,
    amounts,
    budget_admin,
    key_columns,
    owner_inlines,
    price_admin,
    request_ids,
    retained_admin,
)
from usage.cells import KEY_OWNER, money, two_lines
from usage.models import OWED, Adjustment, FreeCalls, Hold, LedgerEntry, Overrun, Process, Worker
from usage.paid import adjustment_as_paid, seen_by, sees_costs
from usage.price_flags import PRICE_FLAGS
from usage.tokens import TOKEN_COLUMNS
from usage.workers import with_silence

# Importing these modules registers their admin pages.
__all__ = ["alert_admin", "budget_admin", "key_columns", "owner_inlines", "price_admin", "retained_admin"]


class ReadOnlyAdmin(LookedAt):
    """Rows that can only be viewed. The search takes a request id as clients see it."""

    paginator = BoundedPaginator
    show_full_result_count = False
    # Each facet count would scan the whole table.
    show_facets = admin.ShowFacets.NEVER
    actions = None
    list_per_page = 50
    request_id_field = "pk"
    search_help_text = "A request id (req_bf_…), in full."

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
        """Rows for a search text that isn't one of this gateway's request ids."""
        return queryset.none()

    @admin.display(description="call", ordering="id")
    def call(self, row: Any) -> SafeString:
        """The request id and the time of a call."""
        return two_lines(self.request_id(row), viewer.moment(row.admitted_at))

    @admin.display(description="request id")
    def request_id(self, row: Any) -> str:
        """The request id as clients see it: `req_bf_…`."""
        return request_ids.request_id(getattr(row, self.request_id_field))

    def heading(self, row: Any) -> str:
        return self.request_id(row)

    @admin.display(description="virtual key")
    def called_with(self, row: Any) -> SafeString | str:
        """The virtual key and its owner."""
        key = row.virtual_key
        return two_lines(key, key.belongs_to) if key is not None else "–"


class PriceFlagFilter(admin.SimpleListFilter):
    """Filters by price flag. The choices come from `PRICE_FLAGS`: listing distinct flags would scan the ledger."""

    title = "price"
    parameter_name = "price_flag"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return list(PRICE_FLAGS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(price_flag=self.value()) if self.value() else queryset


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    """Ledger rows, one per call, newest first."""

    title = "Calls"
    rows = ("call", "calls")
    empty = "No calls yet. A call gets a row here once it reaches a provider and may cost something."
    list_display = (
        "call",
        "called_with",
        "model",
        "status",
        "cost_shown",
        column("input_tokens", "input tokens"),
        column("output_tokens", "output tokens"),
        "counted",
        column("duration_ms", "duration (ms)"),
    )
    list_select_related = KEY_OWNER
    # What has an index. The page of calls has more filters, and bounds what they read.
    list_filter = ("status", "estimated", PriceFlagFilter)
    search_fields = ("id",)
    search_help_text = "A request id (req_bf_…) or the provider's request id, in full."
    ordering = ("-id",)
    fieldsets: ClassVar[Any] = [
        (
            None,
            {
                "fields": (
                    "request_id",
                    "provider_request_id",
                    "status",
                    column("http_status", "HTTP status"),
                    "error_type",
                    "stop_reason",
                )
            },
        ),
        ("Who", {"fields": ("customer", "team", "virtual_key", "labels", "client_labels")}),
        (
            "What",
            {"fields": ("endpoint", "requested_model", "model", "provider", "provider_key", "stream", "attempts")},
        ),
        (
            "When",
            {
                "fields": (
                    *("admitted_at", "ended_at"),
                    *(column("time_to_first_byte_ms", "first byte (ms)"), column("duration_ms", "duration (ms)")),
                )
            },
        ),
        ("Tokens", {"fields": (*TOKEN_COLUMNS, "iterations", "service_tier", "speed", "inference_geo", "estimated")}),
        ("Money", {"fields": ("cost", "charge", "currency", "price_version", "price_flag", "held")}),
    ]

    def search_otherwise(self, queryset: QuerySet[Any], text: str) -> QuerySet[Any]:
        return queryset.filter(provider_request_id=text)

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerEntry]:
        return super().get_queryset(request).select_related(*KEY_OWNER, "team__customer", "customer", "provider_key")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> LedgerEntry | None:
        row: LedgerEntry | None = super().get_object(request, object_id, from_field)
        return row and seen_by(request.user, row)

    @admin.display(description="usage", ordering="estimated")
    def counted(self, row: LedgerEntry) -> str:
        """Whether the tokens are the provider's report or an estimate."""
        return "estimated" if row.estimated else "reported"

    @admin.display(description="cost", ordering=OWED)
    def cost_shown(self, row: LedgerEntry) -> str:
        """What the owner pays, as people write it."""
        return amounts.usd(row.owed)


@admin.register(FreeCalls)
class FreeCallsAdmin(LookedAt):
    """The number of free calls per day."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = None
    list_per_page = 50
    about = "Token counting, file calls and batch queries. Such calls are free and have no rows in the ledger."
    empty = "No free call has reached a provider lately."
    list_display = ("day", "called_with", "endpoint", "status", "calls")
    list_display_links = None
    list_select_related = KEY_OWNER
    list_filter = ("endpoint", "status")
    date_hierarchy = "day"

    @admin.display(description="virtual key")
    def called_with(self, row: FreeCalls) -> SafeString:
        """The virtual key and its owner."""
        return two_lines(row.virtual_key, row.virtual_key.belongs_to)


@admin.register(Adjustment)
class AdjustmentAdmin(ReadOnlyAdmin):
    """Corrections of ledger rows, each stored as a difference."""

    request_id_field = "entry_id"
    empty = "No adjustments yet: no ledger row had to be corrected."
    list_display = (
        "request_id",
        "created_at",
        "reason",
        "author",
        column("output_tokens", "output tokens"),
        money("cost"),
        money("owed", "charge", OWED),
    )
    list_filter = ("reason",)
    search_fields = ("entry_id",)
    ordering = ("-id",)

    def get_list_display(self, request: HttpRequest) -> Any:
        both = super().get_list_display(request)
        return both if sees_costs(request.user) else [*both[:-2], both[-1]]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Adjustment | None:
        row: Adjustment | None = super().get_object(request, object_id, from_field)
        return row if row is None or sees_costs(request.user) else adjustment_as_paid(row)


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    """Calls in progress, and the amount held for each."""

    title = "Calls in progress"
    rows = ("call", "calls")
    empty = "No call is in progress."
    list_display = (
        "call",
        "called_with",
        "requested_model",
        "provider",
        money("ceiling", "held"),
        "process",
    )
    list_select_related = KEY_OWNER
    search_fields = ("id",)
    ordering = ("admitted_at",)


@admin.register(Overrun)
class OverrunAdmin(ReadOnlyAdmin):
    """Calls that cost more than their hold, latest first."""

    empty = "No call has cost more than its hold."
    list_display = ("request_id", "at", "called_with", money("cost"), money("held"))
    list_select_related = KEY_OWNER
    search_fields = ("call",)
    ordering = ("-at",)


@admin.register(Process)
class ProcessAdmin(ReadOnlyAdmin):
    """Live web processes, and how many calls each has in progress."""

    title = "Web processes"
    empty = "No web process is running. Start the gateway."
    list_display = ("host", "pid", "started_at", "heartbeat_at", "holds")
    ordering = ("host", "pid")

    def heading(self, row: Any) -> str:
        return str(row)

    @admin.display(description="calls in progress")
    def holds(self, row: Process) -> int:
        """The number of calls that the process has holds for."""
        return Hold.objects.filter(process=row.id).count()


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Celery's processes: workers, which carry out tasks, and beat, which sends the periodic ones."""

    title = "Workers"
    empty = "No worker has shown a sign of life in the last day. Start one (make run does), or alerts are not sent."
    list_display = ("kind", "host", "pid", "state", "beat_at", "task_at", "waited", "started_at")
    ordering = ("kind", "host", "pid")

    def heading(self, row: Any) -> str:
        return str(row)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        return with_silence(super().get_queryset(request))

    @admin.display(description="state")
    def state(self, row: Worker) -> SafeString:
        """Whether its last sign of life is recent."""
        return state_badge("active" if row.alive else "unreachable")

    @admin.display(description="a task waited (ms)")
    def waited(self, row: Worker) -> str:
        """The longest wait of its latest tasks."""
        return amounts.NONE if row.waited_ms is None else viewer.number(row.waited_ms)
