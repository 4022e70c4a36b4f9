"""Admin pages for where calls go: names of our own for models, provider keys that get no calls for a while, and how
they do."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString

from keys.badges import state_badge
from keys.lists import Listed, LookedAt
from keys.models import Cooldown, ModelAlias, Performance


@admin.register(ModelAlias)
class ModelAliasAdmin(Listed):
    """Names of our own for models."""

    list_display = ("name", "target", "created_at")
    search_fields = ("name", "target")
    fields = ("name", "target")
    empty = "There is no alias yet: add one, and callers may ask for the model that it stands for by its name."


class AboutProviderKeys(LookedAt):
    """What is known of provider keys."""

    list_display_links = None
    list_filter: ClassVar[tuple[str, ...]] = ("provider_key",)
    list_select_related = ("provider_key",)


@admin.register(Performance)
class PerformanceAdmin(AboutProviderKeys):
    """How provider keys do, where a virtual key's weights follow that."""

    empty = (
        "Nothing is known yet. Where a virtual key has adaptive weights, a task looks every half minute at what the "
        "latest calls came to."
    )
    list_display = ("provider_key", "model", "attempts", "failures", "first_byte", "kept", "at")

    @admin.display(description="time to first byte (median)", ordering="first_byte_ms")
    def first_byte(self, row: Performance) -> str:
        return "–" if row.first_byte_ms is None else f"{row.first_byte_ms:,.0f} ms"

    @admin.display(description="part of its weight", ordering="share")
    def kept(self, row: Performance) -> str:
        return "all" if row.share == 1 else f"1/{round(1 / row.share)}"


@admin.register(Cooldown)
class CooldownAdmin(AboutProviderKeys):
    """Provider keys that get no calls for a while; ending that lets the next call try."""

    empty = (
        "Every provider key is called. One that fails, limits the rate or is refused is here until it is well again."
    )
    list_display = ("provider_key", "of", "state", "reason", "http_status", "strikes", "since", "until")
    list_filter = ("reason", "provider_key")
    actions = ("end",)

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Who may change provider keys may have them called again."""
        return request.user.has_perm("keys.change_providerkey")

    @admin.action(description="Call them again from now on", permissions=["end"])
    def end(self, request: HttpRequest, queryset: QuerySet[Cooldown]) -> None:
        names = ", ".join(str(row) for row in queryset)
        queryset.delete()
        self.message_user(request, f"Called again from now on: {names}.")

    @admin.display(description="models", ordering="model")
    def of(self, row: Cooldown) -> str:
        return row.model or "all"

    @admin.display(description="state", ordering="until")
    def state(self, row: Cooldown) -> SafeString:
        return state_badge("cooling" if row.until > timezone.now() else "open")
