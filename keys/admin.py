"""Admin pages for the gateway, customers, teams and gateway tokens. Importing this module registers all key pages."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from keys import audit_admin, customers, issuing, key_search, provider_key_admin, routing_admin, virtual_keys
from keys.admin_lists import LONGEST_TERM
from keys.forms import GatewayTokenForm
from keys.kept_admin import ONE_WAY_TO_SAVE, KeptAdmin, PausableAdmin
from keys.large_lists import LargeList, PickerFilter
from keys.models import CredentialKind, Customer, Gateway, GatewayToken, Team, VirtualKey
from keys.virtual_key_admin import VirtualKeyAdmin

__all__ = [
    "CustomerAdmin",
    "KeptAdmin",
    "TeamAdmin",
    "VirtualKeyAdmin",
    "audit_admin",
    "provider_key_admin",
    "routing_admin",
]


@admin.register(Gateway)
class GatewayAdmin(PausableAdmin):
    """The page of the one row that describes the whole gateway."""

    fields = ("paused", "arbiter_away")
    readonly_fields = ("arbiter_away",)
    actions = ()

    def heading(self, row: Any) -> str:
        return "The whole gateway"

    @admin.display(description="while the database is unavailable")
    def arbiter_away(self, row: Gateway) -> str:
        """The deployment's setting. It isn't stored in the row, because it matters while there is no database."""
        if settings.CONFIGURATION.arbiter_away == "refuse":
            return "The gateway refuses calls (ARBITER_AWAY=refuse)."
        return (
            "A process lets calls pass if it has accepted their credentials before. It does not check budgets and "
            "limits then, and records the calls afterwards (ARBITER_AWAY=pass). A revocation takes effect only when "
            "the database is back."
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(reverse("admin:keys_gateway_change", args=[1]))


@admin.register(Customer)
class CustomerAdmin(LargeList, PausableAdmin):
    row_page = "admin:customer"
    empty = "There is no customer yet. Add the company or cost centre that is billed."
    list_display = ("name", "paused_state", "created_at")
    list_filter = ("paused",)
    search_fields = ("name",)
    fields = ("name", "paused", "time_zone", "fiscal_year_month", "language")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        customers.save(obj)


@admin.register(Team)
class TeamAdmin(LargeList, PausableAdmin):
    row_page = "admin:team"
    empty = "There is no team yet. Add one to let several virtual keys share files, budgets and limits."
    list_display = ("name", "customer", "paused_state", "created_at")
    list_filter = ("paused", ("customer", PickerFilter))
    list_select_related = ("customer",)
    search_fields = ("name", "customer__name")
    fields = ("customer", "name", "paused", "max_tokens", "default_max_tokens")
    autocomplete_fields = ("customer",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["customer"] if obj else []  # ledger rows of its keys name that customer

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        customers.save(obj)


@admin.register(GatewayToken)
class GatewayTokenAdmin(LargeList, KeptAdmin):
    """Gateway tokens, which call as a virtual key. They are added, shown once and revoked, but never edited."""

    form = GatewayTokenForm
    adds = "issue"
    secret_columns = ("ends",)
    actions = ("revoke",)
    fields = ("name", "virtual_key")
    autocomplete_fields = ("virtual_key",)
    empty = "There is no gateway token yet. Issue one to a person or service that calls as another's virtual key."
    list_display = ("name", "calls_as", "ends", "created_at", "revoked_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    list_select_related = ("virtual_key__customer", "virtual_key__team")
    search_fields = ("name", "virtual_key__name")
    search_help_text = "Name, virtual key, or the last characters of the token"
    ordering = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(kind=CredentialKind.GATEWAY_TOKEN)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term or len(search_term) > LONGEST_TERM:
            return super().get_search_results(request, queryset, search_term)
        owners = VirtualKey.objects.filter(key_search.fits(search_term)).order_by().values("pk")
        found: list[int] = []
        for condition in (Q(name__icontains=search_term.strip()), Q(virtual_key__in=owners[: key_search.NEWEST])):
            found += queryset.filter(condition).order_by().values_list("pk", flat=True)[: key_search.FOUND]
        if self.sees_secrets(request):
            found += key_search.with_end(search_term).values_list("pk", flat=True)[: key_search.FOUND]
        return queryset.filter(pk__in=found), False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return self.asked(request, "revoke")

    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Refuse the page of a token, whose title shows the token's ends, to those who may not see them."""
        if not self.sees_secrets(request):
            raise PermissionDenied
        return super().change_view(request, *args, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["queryset"] = VirtualKey.objects.filter(passthrough=False, revoked_at=None)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    @admin.display(description="virtual key", ordering="virtual_key__name")
    def calls_as(self, row: GatewayToken) -> str:
        return virtual_keys.address(row.virtual_key)

    @admin.display(description="token")
    def ends(self, row: GatewayToken) -> str:
        return str(row)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return super().add_view(request, form_url, {**(extra_context or {}), **ONE_WAY_TO_SAVE})

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool) -> None:
        vars(obj)["plain"] = issuing.issue_gateway_token(obj.name, obj.virtual_key)
        obj.pk = self.get_queryset(request).get(virtual_key=obj.virtual_key, name=obj.name, revoked_at=None).pk

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        obj.refresh_from_db()
        return super().log_addition(request, obj, message)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self.shown_once(request, obj.virtual_key, f"Gateway token “{obj.name}”", vars(obj).pop("plain"))

    @admin.action(description="Revoke: refuse their calls permanently", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        rows = self.permitted(request, "revoke", queryset)
        if "confirmed" not in request.POST:
            return self.confirm_revoking(request, rows, "Revoke gateway tokens", None, "revoke")
        for row in rows:
            issuing.revoke_token(row)
            self.log_change(request, row, "Revoked.")
        self.message_user(request, f"Revoked: {', '.join(row.name for row in rows) or 'none'}.")
        return None
