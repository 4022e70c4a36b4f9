"""Admin pages for where calls go: names of our own for models, and provider keys that get no calls for a while."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString

from keys.badges import state_badge
from keys.models import Cooldown, ModelAlias


@admin.register(ModelAlias)
class ModelAliasAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Names of our own for models."""

    list_display = ("name", "target", "created_at")
    search_fields = ("name", "target")
    fields = ("name", "target")


@admin.register(Cooldown)
class CooldownAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Provider keys that get no calls for a while; ending that lets the next call try."""

    list_display = ("provider_key", "of", "state", "reason", "http_status", "strikes", "since", "until")
    list_display_links = None
    list_filter = ("reason", "provider_key")
    list_select_related = ("provider_key",)
    actions = ("end",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

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
