"""The admin page of refused calls: calls with their own row and counted calls in one list, in the reader's language."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import CharField, QuerySet, Value
from django.forms import Media
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import get_language_from_request

from keys import viewer
from keys.large_lists import PickerFilter
from keys.pickers import PickerSelect
from keys.visibility import visible
from messages_api.callers import wording
from usage import refusal_reasons, request_ids
from usage.admin import ReadOnlyAdmin
from usage.cells import KEY_OWNER, two_lines
from usage.models import LedgerEntry, Refusal
from usage.refusal_log import KEPT_SINGLY

# Characters of a message in the list.
BRIEF = 120
# The latest time of a call that is searched: a made-up id may contain any time.
LATEST_MS = 250_000_000_000_000


class ReasonFilter(admin.SimpleListFilter):
    """Filters by reason. The choices are a fixed list, which avoids a query for all reasons in the log."""

    title = "reason"
    parameter_name = "why"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        with wording.spoken(reader(request)):
            return [(codes[0], refusal_reasons.sentence(codes[0])) for codes in refusal_reasons.SENTENCES.values()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        sentence = refusal_reasons.SENTENCE_OF.get(self.value() or "")
        return queryset.filter(reason__in=refusal_reasons.SENTENCES[sentence]) if sentence else queryset


class TimeFilter(admin.SimpleListFilter):
    """Filters by how long ago the calls were."""

    title = "time"
    parameter_name = "hours"
    HOURS: ClassVar = {"1": "the last hour", "24": "the last 24 hours", "168": "the last 7 days"}

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return self.HOURS.items()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in self.HOURS:
            return queryset
        return queryset.filter(refused_at__gte=timezone.now() - timedelta(hours=int(str(self.value()))))


@admin.register(Refusal)
class RefusalAdmin(ReadOnlyAdmin):
    """Calls that the gateway refused in the last days (REFUSAL_DAYS)."""

    empty = "The gateway has refused no call lately."
    secret_columns = ("credential_hint",)
    list_display = (
        "call",
        "calls",
        "why_briefly",
        "status",
        "called_with",
        "credential_hint",
        "requested_model",
    )
    list_select_related = KEY_OWNER
    list_filter = (ReasonFilter, TimeFilter, ("virtual_key", PickerFilter), ("virtual_key__team", PickerFilter))
    search_fields = ("id",)
    search_help_text = (
        "A model's name, or a full request id (req_bf_…), which the client finds in the answer as request-id and"
        " request_id."
    )
    ordering = ("-refused_at",)
    fields: ClassVar = [
        "request_id",
        "refused_at",
        "calls",
        "why",
        "message",
        "status",
        "error_type",
        "reason",
        "endpoint",
        "called_with",
        "credential_hint",
        "requested_model",
    ]
    readonly_fields = ("request_id", "calls", "why", "status", "called_with")

    @property
    def media(self) -> Media:
        """With what the pickers among the filters need."""
        media: Media = super().media
        return media + PickerSelect(Refusal._meta.get_field("virtual_key"), self.admin_site).media

    def get_queryset(self, request: HttpRequest) -> QuerySet[Refusal]:
        # The methods of columns don't get the request, so each row carries the reader's language.
        rows: QuerySet[Refusal] = super().get_queryset(request)
        return rows.annotate(reader=Value(reader(request), output_field=CharField()))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The call of this id; or, if it has no row, the rows of the calls that were counted in its minute."""
        found, duplicates = super().get_search_results(request, queryset, search_term)
        if not search_term or found.exists():
            return found, duplicates
        try:
            call = request_ids.parse(search_term)
        except ValueError:
            return queryset.filter(requested_model=search_term.strip()), duplicates
        counted = queryset.filter(minute__in=minutes(call))
        if visible(request.user, LedgerEntry.objects.filter(pk=call)).exists():
            self.message_user(request, in_the_ledger(call), messages.INFO)
            return found, duplicates
        if counted.exists():
            kept = f"Of this minute's refusals, {KEPT_SINGLY} for each reason and key have their own row; the others "
            self.message_user(request, kept + "are counted. This call may be one of those below.", messages.INFO)
        return counted, duplicates

    @admin.display(description="request id")
    def request_id(self, row: Any) -> str:
        """The id that clients see. Rows that older versions counted have none."""
        return request_ids.request_id(row.pk) if row.http_status else "–"

    @admin.display(description="request id", ordering="refused_at")
    def call(self, row: Any) -> SafeString:
        """The id and the time of the call."""
        return two_lines(self.request_id(row), viewer.moment(row.refused_at))

    @admin.display(description="calls", ordering="count")
    def calls(self, row: Any) -> SafeString | str:
        """The number of calls in the row."""
        if row.minute is None:
            return "1"
        with wording.spoken(row.reader):
            count = number_format(row.count, force_grouping=True)
        return two_lines(f"{count} more", f"at {viewer.moment(row.minute)}, of which this is the last")

    @admin.display(description="why", ordering="reason")
    def why(self, row: Any) -> SafeString | str:
        """The reason and the message, in the reader's language if the message can be translated."""
        return explained(row, row.message)

    @admin.display(description="why", ordering="reason")
    def why_briefly(self, row: Any) -> SafeString | str:
        """As `why`, with only the beginning of a long message."""
        return explained(row, Truncator(row.message).chars(BRIEF))

    @admin.display(description="HTTP status", ordering="http_status")
    def status(self, row: Any) -> str:
        return str(row.http_status or "–")


def explained(row: Any, message: str) -> SafeString | str:
    """The reason, and below it the message to the client: in the reader's language, or else as it was sent."""
    with wording.spoken(row.reader):
        sentence = refusal_reasons.sentence(row.reason)
    shown = wording.again(row.reason, row.facts, row.reader) or message
    words = two_lines(sentence, shown) if shown else sentence
    # The rest of the page is in English.
    return words if row.reader == "en" else format_html('<span lang="{}">{}</span>', row.reader, words)


def reader(request: HttpRequest) -> str:
    """The language of the page's reader, by cookie or browser, if refusals are translated to it; else English."""
    language = get_language_from_request(request)
    return next((each for each in (language, language.split("-")[0]) if each in wording.TRANSLATED), "en")


def minutes(call: UUID) -> list[datetime]:
    """The minutes in which a call of this id may have been refused: that of its id, and the next one."""
    minute = min(call.int >> 80, LATEST_MS) // 60_000 * 60
    return [datetime.fromtimestamp(seconds, UTC) for seconds in (minute, minute + 60)]


def in_the_ledger(call: UUID) -> SafeString:
    url = reverse("admin:call", args=[request_ids.request_id(call)])
    return format_html('The gateway let this call through: <a href="{}">its page</a>.', url)
