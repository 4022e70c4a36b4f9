"""Admin pages for admin keys and bill formats. The rules are in reconciliation.admin_keys and reconciliation.bills."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters

from keys import viewer
from keys.kept_admin import KeptAdmin
from reconciliation import admin_keys, bills
from reconciliation.forms import AdminKeyForm, BillFormatForm
from reconciliation.sources import AdminKey, BillFormat


@admin.register(AdminKey)
class AdminKeyAdmin(KeptAdmin):
    """Keys that read a provider's usage and cost reports. An unused one is switched off."""

    form = AdminKeyForm
    actions = ("test",)
    secret_columns = ("hint",)
    secret_permission = "reconciliation.change_adminkey"  # noqa: S105  (the name of a permission)
    list_display = ("name", "provider", "reads", "read_at", "active", "hint")
    list_filter = ("provider", "active")
    search_fields = ("name",)
    empty = (
        "There is no admin key yet. Add one of your organisation (Claude Console ▸ Admin keys), so that what the "
        "provider reports is compared with the ledger every hour."
    )
    SHOWN: ClassVar = ("name", "provider", "base_url", "requests_a_minute", "active")

    @method_decorator(sensitive_post_parameters("secret"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        saved: list[AdminKey] = []
        vars(request)["saved"] = saved
        response = super().changeform_view(request, *args, **kwargs)
        # After the commit: a provider may be slow, and no row must stay locked meanwhile.
        self.tell(request, saved)
        return response

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # `secret` is not a field of the model, so Django can't render it on a read-only page.
        may = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return [*self.SHOWN, *(["secret"] if may else []), *(["reads"] if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("reads",)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        admin_keys.save(obj, form.cleaned_data["secret"])
        vars(request)["saved"].append(obj)

    def has_test_permission(self, request: HttpRequest) -> bool:
        """Whether this person may test admin keys."""
        return self.asked(request, "test")

    @admin.action(description="Test: ask for a report", permissions=["test"])
    def test(self, request: HttpRequest, queryset: QuerySet[AdminKey]) -> None:
        self.tell(request, list(self.permitted(request, "test", queryset)))

    def tell(self, request: HttpRequest, rows: list[AdminKey]) -> None:
        """Test these admin keys, and say what came of it."""
        for row in rows:
            said = admin_keys.test(row)
            works = said.startswith("it reads")
            self.message_user(request, f"“{row}” was tested: {said}.", messages.SUCCESS if works else messages.WARNING)
            self.log_change(request, row, f"Tested: {said}.")

    @admin.display(description="reports")
    def reads(self, row: AdminKey) -> SafeString | str:
        """What it can read, and what is wrong."""
        kind = row.get_kind_display() if row.kind else "not tested yet"
        when = f", {viewer.moment(row.checked_at)}" if row.checked_at else ""
        if not row.problem:
            return f"{kind}{when}"
        return format_html('{}<br><span class="explained">{}</span>', f"{kind}{when}", row.problem)

    @admin.display(description="secret")
    def hint(self, row: AdminKey) -> str:
        return f"…{row.secret_hint}" if row.secret_hint else "set"


@admin.register(BillFormat)
class BillFormatAdmin(KeptAdmin):
    """How to read files of clouds' bills."""

    form = BillFormatForm
    list_display = ("name", "provider_key", "patterns")
    list_select_related = ("provider_key",)
    search_fields = ("name",)
    empty = "There is no format yet. Add one for the files of your cloud's bill: its columns, and which meter is what."

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        may = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return list(BillFormatForm.field_order) if may else ["name", "provider_key", "tokens_in_unit"]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        bills.compare_again(obj)

    @admin.display(description="patterns")
    def patterns(self, row: BillFormat) -> int:
        return len(row.meters)
