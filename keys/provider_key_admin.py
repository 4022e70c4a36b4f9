"""Admin pages for provider keys: thin over keys.provider_keys and keys.provider_checks, as the commands are."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters

from keys import provider_keys
from keys.badges import state_badge
from keys.forms import ProviderKeyForm
from keys.kept_admin import KeptAdmin
from keys.models import ModelList, ProviderKey


@admin.register(ProviderKey)
class ProviderKeyAdmin(KeptAdmin):
    """Accounts with providers. One that isn't wanted any more is deactivated: the ledger names it."""

    # From the provider, once it has been called.
    LEARNED = ("listed", "organization_id", "workspace_id")

    form = ProviderKeyForm
    POLICY = ("connect_seconds", "first_byte_seconds", "between_bytes_seconds", "total_seconds", "retry_unanswered")

    fields = (
        "name",
        "provider",
        "base_url",
        "region",
        "project",
        "secret",
        "model_patterns",
        "active",
        *POLICY,
        *LEARNED,
    )
    readonly_fields = LEARNED
    empty = "There is no provider key yet: add an account with a provider, and virtual keys can be mapped to it."
    list_display = ("name", "provider", "state", "address", "models", "hint", "organization_id", "workspace_id")
    list_filter = ("provider", "active")
    search_fields = ("name", "base_url")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProviderKey]:
        return super().get_queryset(request).prefetch_related("cooldowns")

    @method_decorator(sensitive_post_parameters("secret"))
    def changeform_view(self, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(*args, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # A field that isn't the model's can't be rendered on a page to look at only.
        may = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        hidden = {"secret": not may} | dict.fromkeys(self.LEARNED, obj is None)
        return [field for field in self.fields if not hidden.get(field)]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        provider_keys.save(obj, form.cleaned_data["secret"])

    @admin.display(description="state", ordering="active")
    def state(self, row: ProviderKey) -> SafeString:
        """Whether it is called: what it cools down for is on a page of its own."""
        cooling = [each for each in row.cooldowns.all() if each.until > timezone.now() or each.is_refused]
        if not row.active or not cooling:
            return state_badge("active" if row.active else "inactive")
        told = "refused" if any(each.is_refused for each in cooling) else "cooling"
        url = reverse("admin:keys_cooldown_changelist", query={"provider_key__id__exact": row.pk})
        return format_html('<a href="{}">{}</a>', url, state_badge(told))

    @admin.display(description="base URL")
    def address(self, row: ProviderKey) -> str:
        return row.base_url or row.region or "the provider's own"

    @admin.display(description="models")
    def models(self, row: ProviderKey) -> str:
        return ", ".join(row.model_patterns) or "all"

    @admin.display(description="models that its provider lists")
    def listed(self, row: ProviderKey) -> str:
        models = ModelList.objects.filter(pk=row.pk).first()
        if models is None:
            return "not asked for yet"
        names = ", ".join(model["id"] for model in models.listed) or "none yet"
        when = f" ({models.listed_at:%Y-%m-%d %H:%M} UTC)" if models.listed_at else ""
        return names + when + (f"; the last question had no answer: {models.problem}" if models.problem else "")

    @admin.display(description="secret")
    def hint(self, row: ProviderKey) -> str:
        return f"…{row.secret_hint}" if row.secret_hint else ("set" if row.secret_ciphertext else "none")
