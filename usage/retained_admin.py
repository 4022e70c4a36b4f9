"""The admin page of what budgets keep held for interrupted calls, where an administrator can give it back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince

from keys import viewer
from keys.admin import KeptAdmin
from usage import amounts, retained
from usage.append_only import AppendOnly
from usage.request_ids import request_id
from usage.retained import Retained


@admin.register(Retained)
class RetainedAdmin(AppendOnly, KeptAdmin):
    """What is retained for each interrupted call, and since when."""

    title = "Interrupted calls whose budgets still hold money"
    actions = ("give_back",)
    list_display = ("request_id", "called_by", "asked_for", "estimate", "kept", "since")
    fields = list_display
    ordering = ("retained_at",)
    empty = (
        "Budgets retain nothing for interrupted calls: there were none, or everything has been given back (at the "
        "latest after RETAINED_SECONDS). There is nothing to do."
    )

    def heading(self, row: Any) -> str:
        return self.request_id(row)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_give_back_permission(self, request: HttpRequest) -> bool:
        return self.asked(request, "give_back")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Retained]:
        return retained.with_amounts(super().get_queryset(request))

    @admin.display(description="call")
    def request_id(self, row: Retained) -> str:
        return request_id(row.id)

    @admin.display(description="virtual key")
    def called_by(self, row: Any) -> str:
        return f"{row.call['virtual_key']} of {row.call['owner']}" if row.call else "–"

    @admin.display(description="model")
    def asked_for(self, row: Any) -> str:
        return row.call["model"] if row.call else "–"

    @admin.display(description="estimated at")
    def estimate(self, row: Any) -> str:
        return amounts.usd(Decimal(row.call["estimate"])) if row.call else "–"

    @admin.display(description="held beyond that")
    def kept(self, row: Any) -> SafeString:
        lines = (
            (reverse("admin:usage_budget_change", args=[each["budget"]]), retained.amount(each), retained.budget(each))
            for each in row.amounts or ()
        )
        return format_html_join(mark_safe("<br>"), '<a href="{}">{}</a> {}', lines)

    @admin.display(description="since", ordering="retained_at")
    def since(self, row: Retained) -> str:
        return f"{viewer.moment(row.retained_at)} ({timesince(row.retained_at)})"

    @admin.action(description="Give back to budgets what is held", permissions=["give_back"])
    def give_back(self, request: HttpRequest, queryset: QuerySet[Retained]) -> HttpResponse | None:
        allowed = self.permitted(request, "give_back", queryset)
        if "confirmed" not in request.POST:
            rows = [(row, request_id(row.pk), retained.amounts_of(row)) for row in allowed]
            back = reverse("admin:usage_retained_changelist")
            return self.page(request, "give_back.html", title="Give back what is retained", rows=rows, back=back)
        given = retained.give_back(queryset.filter(pk__in=[row.pk for row in allowed]))
        for row in given:
            self.log_change(request, row, f"Given back: {'; '.join(retained.amounts_of(row)) or 'nothing'}.")
        self.message_user(request, f"Given back: {', '.join(map(self.request_id, given)) or 'nothing'}.")
        return None
