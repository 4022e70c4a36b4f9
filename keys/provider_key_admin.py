"""Admin pages for provider keys. The rules are in keys.provider_keys and keys.provider_checks, as for the commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from keys import provider_checks, provider_keys, viewer
from keys.badges import state_badge
from keys.forms import ProviderKeyForm
from keys.kept_admin import KeptAdmin
from keys.large_lists import OwnPages
from keys.models import CheckState, ModelList, ProviderKey, ProviderKeyCheck

NOTHING_TO_TEST = "there is nothing to test"


@admin.register(ProviderKey)
class ProviderKeyAdmin(KeptAdmin):
    """Accounts with providers. An unused one is deactivated and never deleted, because ledger rows name it."""

    actions = ("test",)
    row_page = "admin:provider_key"
    secret_columns = ("hint",)
    secret_permission = "keys.change_providerkey"  # noqa: S105  (the name of a permission)
    change_form_template = "admin/keys/providerkey/change_form.html"

    # Learned from the provider's answers, and never edited.
    LEARNED = ("tried", "listed", "organization_id", "workspace_id")

    form = ProviderKeyForm
    POLICY = ("connect_seconds", "first_byte_seconds", "between_bytes_seconds", "total_seconds", "retry_unanswered")

    # Most accounts need the first part only. The others are closed at first.
    PARTS: ClassVar = {
        None: ("name", "provider", "secret", "base_url", "model_patterns", "active"),
        "At a cloud": ("region", "project"),
        "Time-outs and retries": POLICY,
        "What its provider said": LEARNED,
    }
    CLOSED = ("At a cloud", "Time-outs and retries")
    readonly_fields = LEARNED
    empty = "There is no provider key yet. Add an account with a provider, so that virtual keys can map to it."
    list_display = (
        "name",
        "provider",
        "state",
        "tried",
        "address",
        "models",
        "hint",
        "organization_id",
        "workspace_id",
    )
    list_filter = ("provider", "active")
    search_fields = ("name", "base_url")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[OwnPages]:
        return OwnPages

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProviderKey]:
        return super().get_queryset(request).select_related("last_check").prefetch_related("cooldowns")

    @method_decorator(sensitive_post_parameters("secret"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        saved: list[ProviderKey] = []
        vars(request)["saved"] = saved
        response = super().changeform_view(request, *args, **kwargs)
        # Test only after the commit: a provider may be slow, and no row must stay locked for as long.
        self.tell(request, saved, " It was saved anyway.")
        return response

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        # `secret` is not a field of the model, so Django can't render it on a read-only page.
        may = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        hidden = {"secret": not may} | dict.fromkeys(self.LEARNED, obj is None)
        parts = {
            title: self.without_secrets(request, [name for name in fields if not hidden.get(name)])
            for title, fields in self.PARTS.items()
        }
        return [
            (title, {"fields": fields, "classes": ["collapse"] if title in self.CLOSED else []})
            for title, fields in parts.items()
            if fields
        ]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        provider_keys.save(obj, form.cleaned_data["secret"])
        vars(request)["saved"].append(obj)

    # Testing

    def get_urls(self) -> list[URLPattern]:
        test = self.admin_site.admin_view(require_POST(self.test_view))
        return [path("<path:object_id>/test/", test, name="keys_providerkey_test"), *super().get_urls()]

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        provider_key: ProviderKey | None = self.get_object(request, unquote(object_id))
        if not self.asked(request, "test", provider_key):
            raise PermissionDenied
        if provider_key is None:
            raise Http404
        self.tell(request, [provider_key])
        return HttpResponseRedirect(reverse(self.row_page, args=[provider_key.pk]))

    def has_test_permission(self, request: HttpRequest) -> bool:
        return self.asked(request, "test")

    @admin.action(description="Test: check their secrets and addresses", permissions=["test"])
    def test(self, request: HttpRequest, queryset: QuerySet[ProviderKey]) -> None:
        self.tell(request, self.permitted(request, "test", queryset))

    def tell(self, request: HttpRequest, rows: Sequence[ProviderKey], if_not: str = "") -> None:
        """Test these provider keys, show each result, and log it.

        Args:
            if_not: a sentence to add to the message about a provider key that doesn't work.
        """
        for row, found in zip(rows, provider_checks.check(*rows), strict=True):
            if found is None:
                self.message_user(request, f"“{row}” was not tested: {NOTHING_TO_TEST}.")
                continue
            works = found.state == CheckState.WORKS
            level = messages.SUCCESS if works else messages.WARNING
            self.message_user(request, f"“{row}” was tested: {found}.{'' if works else if_not}", level)
            self.log_change(request, row, f"Tested: {found}.")

    @admin.display(description="state", ordering="active")
    def state(self, row: ProviderKey) -> SafeString:
        """Whether the gateway calls it. The label links to its cool-downs."""
        cooling = [each for each in row.cooldowns.all() if each.until > timezone.now() or each.is_refused]
        if not row.active or not cooling:
            return state_badge("active" if row.active else "inactive")
        label = "refused" if any(each.is_refused for each in cooling) else "cooling"
        url = reverse("admin:keys_cooldown_changelist", query={"provider_key__id__exact": row.pk})
        return format_html('<a href="{}">{}</a>', url, state_badge(label))

    @admin.display(description="last test")
    def tried(self, row: ProviderKey) -> SafeString | str:
        """The result of the last test, and its time, because the result may be out of date."""
        found: ProviderKeyCheck | None = getattr(row, "last_check", None)
        if found is None:
            return "not tested" if row.kind.takes_secret else NOTHING_TO_TEST
        when = viewer.moment(found.checked_at)
        return format_html(
            '<span class="state {}">{}</span> <span class="explained">{}{}</span>',
            found.state,
            found.headline(),
            when,
            f": {found.message}" if found.message else "",
        )

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
            return "not requested yet"
        names = ", ".join(model["id"] for model in models.listed) or "none yet"
        when = f" ({viewer.moment(models.listed_at)})" if models.listed_at else ""
        return names + when + (f"; the last request failed: {models.problem}" if models.problem else "")

    @admin.display(description="secret")
    def hint(self, row: ProviderKey) -> str:
        return f"…{row.secret_hint}" if row.secret_hint else ("set" if row.secret_ciphertext else "none")
