"""Pages: providers' figures beside ours, which keys are ours, and adjustments of estimates."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from administration import rooms
from administration.owners.pages import one
from administration.reconciliation import sums
from administration.roles import may, names
from administration.rooms import Page
from keys.errors import Unusable
from keys.models import ProviderKey
from reconciliation import adjusting, discounts, key_hints
from reconciliation.adjustment_runs import AdjustmentRun
from reconciliation.comparisons import Comparison
from reconciliation.sources import AdminKey, ReportedKey

VIEW = ("reconciliation.view_comparison",)
# Comparisons of a day that a page shows; a day of one provider key rarely has more.
MOST = 1_000
RUNS = 100
KEYS = 500


def framed(request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
    """A page."""
    return TemplateResponse(
        request, f"admin/reconciliation/{template}.html", admin.site.each_context(request) | {"title": title} | context
    )


@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """A month by provider key, and the state of what is read."""
    month = sums.month_of(request.GET.get("month"))
    user = request.user
    return framed(
        request,
        "overview",
        "Reconciliation",
        found=sums.overview(month),
        month=month,
        may_see_keys=user.has_perm("reconciliation.view_reportedkey"),
        may_add_keys=user.has_perm("reconciliation.add_adminkey"),
        may_see_bills=user.has_perm("reconciliation.view_bill"),
    )


def refuse_unless(allowed: bool) -> None:
    """Refuse a change by people who may only look.

    Raises:
        PermissionDenied: they may not.
    """
    if not allowed:
        raise PermissionDenied


def key_of(pk: int) -> ProviderKey:
    """The provider key of a URL: people who see the reconciliation see names of all provider keys there.

    Raises:
        Http404: there is no such provider key.
    """
    row: ProviderKey = one(ProviderKey.objects.all(), pk)
    return row


@require_safe
def days(request: HttpRequest, pk: int) -> HttpResponse:
    """A month of a provider key, by day."""
    row, month = key_of(pk), sums.month_of(request.GET.get("month"))
    rows = month.rows().filter(provider_key=row)
    last = rows.order_by("-start").first()
    return framed(
        request,
        "days",
        f"Reconciliation of {row}",
        row=row,
        month=month,
        lines=sums.by_day(rows),
        whole=sums.whole(rows),
        until=last.start + timedelta(hours=last.hours) if last else None,
        offers=discounts.offers(row, month.start, month.end),
        adjustable=adjusting.offers(row, month.start, month.end).count(),
        may_adjust=may(request.user, names.ADJUST_ESTIMATES),
        may_price=request.user.has_perm(names.ADD_PRICE),
    )


@require_safe
def hours(request: HttpRequest, pk: int) -> HttpResponse:
    """A day of a provider key, by hour, model and mode."""
    row, month = key_of(pk), sums.month_of(request.GET.get("month"))
    day = sums.day_of(request.GET.get("day"), month)
    month = sums.month_of(f"{day:%Y-%m}")
    rows = Comparison.objects.filter(provider_key=row, start__gte=day, start__lt=day + timedelta(days=1))
    found = sums.lines(rows, "start", "hours", "model", "mode")
    return framed(
        request,
        "hours",
        f"Reconciliation of {row}",
        row=row,
        month=month,
        day=day,
        before=day - timedelta(days=1),
        after=day + timedelta(days=1) if day + timedelta(days=1) <= timezone.now() else None,
        lines=found[:MOST],
        more=len(found) - MOST,
        whole=sums.whole(rows),
        may_see_calls=request.user.has_perm("usage.view_ledgerentry"),
    )


class ReasonForm(forms.Form):
    """Why adjustments are written."""

    reason = forms.CharField(max_length=200, help_text="Stored with each adjustment.")


@require_http_methods(["GET", "HEAD", "POST"])
def adjust(request: HttpRequest, pk: int) -> HttpResponse:
    """What adjusting the estimates of a month would change, by customer; a POST writes the adjustments."""
    row, month = key_of(pk), sums.month_of(request.GET.get("month"))
    form = ReasonForm(request.POST or None)
    back = f"{reverse('admin:provider_key_reconciled', args=[row.pk])}?month={month.name}"
    if request.method == "POST" and form.is_valid():
        reason, author = form.cleaned_data["reason"], request.user.get_username()
        run = adjusting.adjust(row, month.start, month.end, reason=reason, author=author)
        if run is None:
            messages.info(request, "There is nothing to adjust any more: nothing was written.")
        else:
            calls = "1 call was" if run.calls == 1 else f"{run.calls:,} calls were"
            messages.success(request, f"{calls} adjusted. This can be taken back under Adjusted estimates.")
        return HttpResponseRedirect(back)
    found = adjusting.preview(row, month.start, month.end)
    return framed(
        request,
        "adjust",
        f"Adjust the estimates of {row}",
        row=row,
        month=month,
        found=found,
        customers=found.by_customer(),
        form=form,
        back=back,
    )


class TakeBackForm(forms.Form):
    """Which run is taken back, and why."""

    run = forms.ModelChoiceField(AdjustmentRun.objects.filter(undoes=None), widget=forms.HiddenInput)
    reason = forms.CharField(max_length=200)


@require_http_methods(["GET", "HEAD", "POST"])
def runs(request: HttpRequest) -> HttpResponse:
    """The runs that adjusted estimates, latest first; a POST takes one back."""
    allowed = may(request.user, names.ADJUST_ESTIMATES)
    if request.method == "POST":
        refuse_unless(allowed)
        form = TakeBackForm(request.POST)
        if form.is_valid():
            reason, author = form.cleaned_data["reason"], request.user.get_username()
            try:
                adjusting.take_back(form.cleaned_data["run"], reason=reason, author=author)
                messages.success(request, "The adjustments are taken back, each by a counter-adjustment.")
            except Unusable as error:
                messages.error(request, f"Nothing was written: {error}.")
        else:
            messages.error(request, "Nothing was written: give a reason.")
        return HttpResponseRedirect(reverse("admin:adjusted_estimates"))
    rows = AdjustmentRun.objects.select_related("provider_key", "undone_by", "undoes")[:RUNS]
    return framed(request, "runs", "Adjustments of estimates", rows=rows, may_adjust=allowed, form=TakeBackForm())


class ChooseForm(forms.Form):
    """Which provider key a reported key is."""

    row = forms.ModelChoiceField(ReportedKey.objects.all(), widget=forms.HiddenInput)
    provider_key = forms.ModelChoiceField(ProviderKey.objects.order_by("name"), required=False, empty_label="not ours")


@require_http_methods(["GET", "HEAD", "POST"])
def reported_keys(request: HttpRequest) -> HttpResponse:
    """The keys that providers report on, and which of ours each is; a POST changes that by hand."""
    allowed = request.user.has_perm("reconciliation.change_reportedkey")
    if request.method == "POST":
        refuse_unless(allowed)
        form = ChooseForm(request.POST)
        if form.is_valid():
            key_hints.choose(form.cleaned_data["row"], form.cleaned_data["provider_key"])
            messages.success(request, "Changed. Days are compared with it as they are read, or by manage.py reconcile.")
        else:
            messages.error(request, "Nothing was changed: there is no such key any more.")
        return HttpResponseRedirect(reverse("admin:reported_keys"))
    rows = list(ReportedKey.objects.select_related("admin_key", "provider_key")[: KEYS + 1])
    providers = {row.admin_key.provider for row in rows}
    offered = list(ProviderKey.objects.filter(provider__in=providers).order_by("name"))
    return framed(
        request,
        "reported_keys",
        "Reported keys",
        rows=rows[:KEYS],
        more=len(rows) > KEYS,
        offered=offered,
        may_change=allowed,
        has_admin_key=AdminKey.objects.exists(),
    )


rooms.BILLING.add(
    Page(
        "Reconciliation",
        "admin:reconciliation",
        VIEW,
        route="billing/reconciliation/",
        view=overview,
        also=("admin:provider_key_reconciled", "admin:provider_key_reconciled_hours"),
    ),
    Page(
        "Days of a provider key",
        "admin:provider_key_reconciled",
        VIEW,
        route="billing/reconciliation/<int:pk>/",
        view=days,
        linked=False,
    ),
    Page(
        "Hours of a provider key",
        "admin:provider_key_reconciled_hours",
        VIEW,
        route="billing/reconciliation/<int:pk>/hours/",
        view=hours,
        linked=False,
    ),
    Page(
        "Adjust estimates",
        "admin:provider_key_adjust",
        (names.ADJUST_ESTIMATES,),
        route="billing/reconciliation/<int:pk>/adjust/",
        view=adjust,
        linked=False,
    ),
    Page(
        "Adjusted estimates",
        "admin:adjusted_estimates",
        ("reconciliation.view_adjustmentrun",),
        route="billing/adjusted-estimates/",
        view=runs,
    ),
    Page(
        "Reported keys",
        "admin:reported_keys",
        ("reconciliation.view_reportedkey",),
        route="billing/reported-keys/",
        view=reported_keys,
    ),
)
