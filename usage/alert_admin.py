"""Admin pages for alerts, their targets, and the deliveries of each alert."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from keys import viewer
from keys.admin import KeptAdmin
from keys.admin_lists import LookedAt
from keys.large_lists import LargeList
from usage import alert_delivery, alert_sending, alert_targets
from usage.alerts import Alert, AlertTarget, Delivery, Unsent
from usage.budgets import Unit
from usage.cells import KEY_OWNER, OWNER, shown, two_lines, what_is_left


class AlertTargetForm(forms.ModelForm):  # type: ignore[type-arg]
    """An alert target. A webhook's secret can be entered but is never shown again."""

    secret = forms.CharField(
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
        help_text="Signs a webhook's requests: 24 or more characters, or whsec_ followed by base64. It is stored "
        "encrypted and never shown again. Leave empty to keep the current one.",
    )

    class Meta:
        model = AlertTarget
        fields = ("channel", "customer", "address", "active")
        help_texts: ClassVar = {
            "customer": "Only alerts about this customer, its teams and its keys. Empty: all alerts.",
            "active": "The target receives alerts that are raised while it is active; it doesn't receive earlier ones.",
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "channel" in cleaned:
            target = self.instance
            target.channel, target.address = cleaned["channel"], cleaned.get("address", "")
            try:
                alert_targets.check(target, cleaned.get("secret", ""))
            except ValidationError as error:
                self.add_error(None, error)
        return cleaned


@admin.register(AlertTarget)
class AlertTargetAdmin(KeptAdmin):
    """Alert targets. They can't be deleted, only switched off: deliveries refer to them."""

    form = AlertTargetForm
    change_form_template = "admin/usage/alerttarget/change_form.html"
    secret_columns = ("address",)
    secret_permission = "usage.change_alerttarget"  # noqa: S105  (the name of a permission)
    list_display = ("place", "channel", "customer", "active")
    list_filter = ("channel", "active")
    list_select_related = ("customer",)
    autocomplete_fields = ("customer",)
    search_fields = ("address", "customer__name")
    empty = (
        "Alerts aren't sent anywhere yet. Add an e-mail address or a webhook. It receives alerts that are raised from "
        "then on: budgets that refuse calls, thresholds (set on each budget: 50, 80, 100), and provider keys that "
        "their provider refuses."
    )

    @method_decorator(sensitive_post_parameters("secret"))
    def changeform_view(self, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(*args, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Django can't render a field that isn't on the model on a read-only page.
        may = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return [*self.without_secrets(request, AlertTargetForm.Meta.fields), *(["secret"] if may else [])]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """The whole URL of a webhook may be a secret, so only those who may change it see it."""
        shown = super().get_list_display(request)
        return ["address" if each == "place" and self.sees_secrets(request) else each for each in shown]

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return self.without_secrets(request, self.search_fields)

    @admin.display(description="address", ordering="address")
    def place(self, row: AlertTarget) -> str:
        """The address, without the path of a webhook."""
        return str(row)

    def get_urls(self) -> list[URLPattern]:
        test = self.admin_site.admin_view(require_POST(self.test_view))
        return [path("<path:object_id>/test/", test, name="usage_alerttarget_test"), *super().get_urls()]

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a test message, also to a target that is switched off, and say what came of it."""
        target: AlertTarget | None = self.get_object(request, unquote(object_id))
        if not self.asked(request, "change", target):
            raise PermissionDenied
        if target is None:
            raise Http404
        found = alert_sending.send_test(target)
        self.message_user(request, found.said, messages.SUCCESS if found.delivered else messages.WARNING)
        return HttpResponseRedirect(reverse("admin:usage_alerttarget_change", args=[target.pk]))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        alert_targets.take_secret(obj, form.cleaned_data["secret"])
        super().save_model(request, obj, form, change)


@admin.register(Alert)
class AlertAdmin(LookedAt, LargeList, KeptAdmin):
    """All alerts, latest first: passed thresholds, budgets that refuse calls, virtual keys whose calls cost more than
    their holds or which expire soon, provider keys that are refused, report implausible usage or are used elsewhere,
    and reports that differ from the ledger."""

    list_display = ("at", "whose", "passed", "spent_then", "delivery")
    fields = list_display
    list_select_related = (*(f"budget__{owner}" for owner in OWNER), *KEY_OWNER, "provider_key")
    ordering = ("-pk",)
    empty = (
        "No alerts yet: no threshold was passed, no budget refused a call, and no provider key was refused. A budget "
        "alerts at each of its thresholds and when it refuses a call. Alert targets say where alerts are sent."
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
        if row.about == "miscounted":
            return f"reports of {viewer.moment(row.start)}"
        return f"budget {row.budget_id} (deleted)"

    @admin.display(description="passed", ordering="threshold")
    def passed(self, row: Alert) -> str:
        if row.doubtful:
            return "implausible usage"
        if row.unsent_requests:
            return "used elsewhere"
        if row.provider_key_id is not None:
            return f"refused: HTTP {row.http_status}"
        if row.expires_at is not None:
            return f"expires {viewer.moment(row.expires_at)}"
        if row.exhausted:
            return "exhausted: calls are refused" if row.used_up else "refused a call that needed more than was left"
        if row.about == "miscounted":
            return "differ from the ledger"
        return f"{row.threshold} %" if row.budget_id else "its holds"

    @admin.display(description="spent then")
    def spent_then(self, row: Alert) -> SafeString | str:
        if row.unsent_requests:
            counts = [viewer.number(round(each or 0)) for each in (row.needed, row.spent)]
            return f"{counts[0]} of {counts[1]} requests weren’t ours"
        if row.provider_key_id is not None or row.expires_at is not None:
            return "–"
        unit = row.budget.unit if row.budget is not None else Unit.USD
        if row.about == "miscounted":
            return f"{shown(row.spent, unit)}; reports: {shown(row.amount, unit)}"
        spent = f"{shown(row.spent, unit)} of {shown(row.amount, unit)}"
        if not row.exhausted:
            return spent
        left = what_is_left(row.left, unit)
        return two_lines(
            spent,
            f"{shown(row.held, unit)} held, {left} left; a call needed {shown(row.needed, unit)}",
        )

    @admin.display(description="delivery", ordering="delivered_at")
    def delivery(self, row: Any) -> SafeString | str:
        if row.unsent == Unsent.SAID:
            return "not sent: the alert about the exhausted budget covers it"
        if row.unsent:
            return not_sent(row)
        if row.delivered_at is not None:
            return f"delivered {viewer.moment(row.delivered_at)}"
        if not row.targets:
            return "within half a minute"
        state = "given up" if row.delivered + row.given_up == row.targets else "under way"
        words = f"{state}: {row.delivered} of {row.targets} delivered"
        return format_html('<a href="{}">{}</a>', reverse("admin:usage_delivery_changelist"), words)


def not_sent(alert: Alert) -> SafeString:
    """Why an alert wasn't sent, with a link to the page where the administrator can change that for the next one."""
    where, what = ("changelist", "see them") if alert.unsent == Unsent.PAUSED else ("add", "add one")
    no_mail = alert.expires_at is not None and not settings.EMAIL_HOST
    return format_html(
        'not sent: {}{} (<a href="{}">{}</a>)',
        alert.get_unsent_display(),
        ", and without EMAIL_HOST the key’s owner gets no e-mail" if no_mail else "",
        reverse(f"admin:usage_alerttarget_{where}"),
        what,
    )


class DeliveryStateFilter(admin.SimpleListFilter):
    """Filters by the delivery's state."""

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
class DeliveryAdmin(LookedAt, LargeList, KeptAdmin):
    """Deliveries of alerts to targets; a failed one shows why."""

    actions = ("retry_now",)
    list_display = ("created_at", "recipient", "alert", "state", "attempts", "next_at", "problem")
    list_select_related = ("target", "alert")
    list_filter = (DeliveryStateFilter, "target__channel")
    ordering = ("-pk",)
    empty = "Nothing was sent yet. A delivery is created when an alert is raised and an alert target receives it."

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return self.asked(request, "retry")

    @admin.action(description="Try again now", permissions=["retry"])
    def retry_now(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        for delivery in self.permitted(request, "retry", queryset):
            alert_delivery.retry_now(delivery)
        self.message_user(request, "The selected deliveries are tried again within a minute.")
