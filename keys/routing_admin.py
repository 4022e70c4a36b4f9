"""Admin pages about routing: model aliases, cool-downs of provider keys, and their recent performance."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString

from keys.admin_lists import Listed, LookedAt, column
from keys.badges import state_badge
from keys.models import Cooldown, ModelAlias, Performance


@admin.register(ModelAlias)
class ModelAliasAdmin(Listed):
    list_display = ("name", "target", "created_at")
    search_fields = ("name", "target")
    fields = ("name", "target")
    empty = "There is no alias yet. Add one, and callers can use it in place of the name of a model."


class AboutProviderKeys(LookedAt):
    list_display_links = None
    list_filter: ClassVar[tuple[str, ...]] = ("provider_key",)
    list_select_related = ("provider_key",)


@admin.register(Performance)
class PerformanceAdmin(AboutProviderKeys):
    """Recent performance of provider keys, which adaptive weights follow."""

    title = "Performance of provider keys"
    empty = (
        "Nothing is measured yet. While a virtual key has adaptive weights, a task measures the latest calls every "
        "half minute."
    )
    list_display = ("provider_key", "model", "attempts", "failures", "first_byte", "kept", "at")
    fields = list_display

    @admin.display(description="first byte (median)", ordering="first_byte_ms")
    def first_byte(self, row: Performance) -> str:
        return "–" if row.first_byte_ms is None else f"{row.first_byte_ms:,.0f} ms"

    @admin.display(description="part of its weight", ordering="share")
    def kept(self, row: Performance) -> str:
        return "all" if row.share == 1 else f"1/{round(1 / row.share)}"


@admin.register(Cooldown)
class CooldownAdmin(AboutProviderKeys):
    """Cool-downs of provider keys. Ending one lets the next call use the provider key."""

    title = "Cool-downs"
    empty = (
        "No provider key is cooling down. One that fails, is rate limited or is refused stands here until it recovers."
    )
    list_display = (
        "provider_key",
        "of",
        "state",
        "reason",
        column("http_status", "HTTP status"),
        "strikes",
        "since",
        "until",
    )
    fields: ClassVar[Any] = list_display
    list_filter = ("reason", "provider_key")
    actions = ("end",)

    def has_end_permission(self, request: HttpRequest) -> bool:
        return self.asked(request, "end")

    @admin.action(description="End the cool-down: call them again now", permissions=["end"])
    def end(self, request: HttpRequest, queryset: QuerySet[Cooldown]) -> None:
        rows = self.permitted(request, "end", queryset)
        Cooldown.objects.filter(pk__in=[row.pk for row in rows]).delete()
        self.message_user(request, f"Cool-down ended: {', '.join(map(str, rows)) or 'none'}.")

    @admin.display(description="models", ordering="model")
    def of(self, row: Cooldown) -> str:
        return row.model or "all"

    @admin.display(description="state", ordering="until")
    def state(self, row: Cooldown) -> SafeString:
        return state_badge("cooling" if row.until > timezone.now() else "open")
