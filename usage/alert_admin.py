"""Admin pages for alerts: what was passed, whom to tell, and whether they were told."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters

from keys import keyring
from keys.admin import KeptAdmin
from keys.lists import LookedAt
from usage import alert_delivery
from usage.alerts import Alert, AlertTarget, Channel, Delivery, Unsent
from usage.budgets import Unit
from usage.lists import KEY_OWNER, OWNER, shown, two_lines

LEAST_SECRET = 24


class AlertTargetForm(forms.ModelForm):  # type: ignore[type-arg]
    """Whom to tell; a webhook's secret goes in and never comes out."""

    secret = forms.CharField(
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
        help_text="A webhook's, to sign with: 24 characters or more, or whsec_ and base64. Stored encrypted; it is "
        "never shown again. Empty: keep it.",
    )

    class Meta:
        model = AlertTarget
        fields = ("channel", "customer", "address", "active")
        help_texts: ClassVar = {
            "active": "It gets what is raised while it is switched on, and nothing of before it was added or meanwhile."
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        address, secret = cleaned.get("address", ""), cleaned.get("secret", "")
        if cleaned.get("channel") == Channel.EMAIL:
            if secret:
                self.add_error("secret", "Only a webhook has a secret.")
            try:
                validate_email(address)
            except ValidationError as error:
                self.add_error("address", error)
        elif address:
            self._clean_webhook(address, secret)
        return cleaned

    def _clean_webhook(self, address: str, secret: str) -> None:
        try:
            parts = urlsplit(address)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            self.add_error("address", "Expected a URL like https://hooks.example.com/budgets.")
        elif parts.username or parts.password:
            self.add_error("address", "A URL with a password would be shown in lists: the secret is what protects.")
        if secret and len(secret) < LEAST_SECRET:
            self.add_error("secret", f"At least {LEAST_SECRET} characters.")
        stored = self.instance.secret_ciphertext and self.instance.channel == Channel.WEBHOOK
        if not secret and not stored:
            self.add_error("secret", "A webhook is signed: it needs a secret.")
        elif not secret and "address" in self.changed_data:
            # Or else who may change an address could have the old secret's signatures sent anywhere.
            self.add_error("secret", "The address has changed: type the secret again.")


@admin.register(AlertTarget)
class AlertTargetAdmin(KeptAdmin):
    """Whom to tell of alerts. One that isn't wanted any more is switched off."""

    form = AlertTargetForm
    list_display = ("address", "channel", "customer", "active")
    list_filter = ("channel", "active")
    list_select_related = ("customer",)
    autocomplete_fields = ("customer",)
    search_fields = ("address", "customer__name")
    empty = (
        "Alerts go to nobody yet: add an e-mail address or a webhook. It gets what is raised from then on: budgets "
        "that refuse calls, thresholds (said on each budget: 50, 80, 100), and provider keys that are refused."
    )

    @method_decorator(sensitive_post_parameters("secret"))
    def changeform_view(self, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(*args, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # A field that isn't the model's can't be rendered on a page to look at only.
        may = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return [*AlertTargetForm.Meta.fields, *(["secret"] if may else [])]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        secret = form.cleaned_data["secret"]
        if secret or obj.channel == Channel.EMAIL:
            obj.secret_ciphertext = keyring.encrypt(secret) if secret else b""
        super().save_model(request, obj, form, change)


@admin.register(Alert)
class AlertAdmin(LookedAt, KeptAdmin):
    """Thresholds that were passed, budgets that refuse calls, virtual keys whose calls cost more than was held, and
    provider keys that are refused or report usage that can't be true; the latest first."""

    list_display = ("at", "whose", "passed", "came_to", "delivery")
    fields = list_display
    list_select_related = (*(f"budget__{owner}" for owner in OWNER), *KEY_OWNER, "provider_key")
    ordering = ("-pk",)
    empty = (
        "No threshold was passed yet, no budget refused a call, and no provider key is refused. A budget alerts at "
        "the percentages that it lists as thresholds, and when it refuses; whom to tell is said under alert targets."
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        rows: QuerySet[Alert] = super().get_queryset(request)
        return rows.annotate(
            targets=Count("deliveries"),
            delivered=Count("deliveries", filter=Q(deliveries__delivered_at__isnull=False)),
            given_up=Count("deliveries", filter=Q(deliveries__given_up_at__isnull=False)),
        )

    @admin.display(description="about", ordering="budget")
    def whose(self, row: Alert) -> SafeString | str:
        if row.provider_key is not None:
            return f"provider key {row.provider_key}"
        if row.budget is not None:
            return two_lines(row.budget.owned_by(), row.budget.terms())
        if row.virtual_key is not None:
            return f"virtual key {row.virtual_key.full_name}"
        return f"budget {row.budget_id} (deleted)"

    @admin.display(description="passed", ordering="threshold")
    def passed(self, row: Alert) -> str:
        if row.doubtful:
            return "usage that can't be true"
        if row.provider_key_id is not None:
            return f"refused: HTTP {row.http_status}"
        if row.exhausted:
            return "exhausted: refuses calls"
        return f"{row.threshold} %" if row.budget_id else "what was held"

    @admin.display(description="spent then")
    def came_to(self, row: Alert) -> SafeString | str:
        if row.provider_key_id is not None:
            return "–"
        unit = row.budget.unit if row.budget is not None else Unit.USD
        came_to = f"{shown(row.spent, unit)} of {shown(row.amount, unit)}"
        if not row.exhausted:
            return came_to
        return two_lines(came_to, f"{shown(row.held, unit)} held; a call needed {shown(row.needed, unit)}")

    @admin.display(description="delivery", ordering="delivered_at")
    def delivery(self, row: Any) -> SafeString | str:
        if row.unsent == Unsent.SAID:
            return f"not sent: {row.get_unsent_display()}"
        if row.unsent:
            return to_nobody(row)
        if row.delivered_at is not None:
            return f"delivered {row.delivered_at:%Y-%m-%d %H:%M} UTC"
        if not row.targets:
            return "within half a minute"
        state = "given up" if row.delivered + row.given_up == row.targets else "under way"
        words = f"{state}: {row.delivered} of {row.targets} delivered"
        return format_html('<a href="{}">{}</a>', reverse("admin:usage_delivery_changelist"), words)


def to_nobody(alert: Alert) -> SafeString:
    """That an alert went to nobody, why, and where to change that for the next one."""
    where, what = ("changelist", "see them") if alert.unsent == Unsent.PAUSED else ("add", "add one")
    return format_html(
        'to nobody: {} (<a href="{}">{}</a>)',
        alert.get_unsent_display(),
        reverse(f"admin:usage_alerttarget_{where}"),
        what,
    )


class StateFilter(admin.SimpleListFilter):
    """By how far it is."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state) for state in ("under way", "delivered", "given up")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        states: dict[str, dict[str, Any]] = {
            "under way": {"delivered_at": None, "given_up_at": None},
            "delivered": {"delivered_at__isnull": False},
            "given up": {"given_up_at__isnull": False},
        }
        return queryset.filter(**states[self.value() or ""]) if self.value() in states else queryset


@admin.register(Delivery)
class DeliveryAdmin(LookedAt, KeptAdmin):
    """Who was told, and why somebody wasn't."""

    actions = ("retry_now",)
    list_display = ("created_at", "target", "alert", "state", "attempts", "next_at", "problem")
    list_select_related = ("target", "alert")
    list_filter = (StateFilter, "target__channel")
    ordering = ("-pk",)
    empty = "Nobody was told of anything yet: that takes an alert, and an alert target that it goes to."

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("usage.change_delivery")

    @admin.action(description="Try again now", permissions=["retry"])
    def retry_now(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        for delivery in queryset:
            alert_delivery.retry_now(delivery)
        self.message_user(request, "They are tried again within a minute.")
