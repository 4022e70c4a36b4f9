"""Pages over recorded calls: what pricing them again would change, and what they would have cost otherwise."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from administration import rooms
from administration.roles import names, visible
from administration.rooms import Page
from keys import patterns, provider_kinds
from keys.audit.notes import note
from keys.errors import Unusable
from keys.form_fields import DayField
from keys.models import Customer
from keys.pickers import Picker, limit
from usage import repricing
from usage.models import LedgerEntry
from usage.price_runs import Which
from usage.price_tables import Price
from usage.repricing import Outcome, Prices, Rows
from usage.what_if import Instead, unpriced, unpriced_models, what_if

# Calls that a page reads; for more there are the commands.
MOST = 20_000
TOO_MANY = f"These are more than {MOST:,} calls: choose a shorter range, or run manage.py"


class RangeForm(forms.Form):
    """Days in UTC, both included, and whose calls. Everything stands in the URL."""

    since = DayField(label="From", help_text="UTC")
    until = DayField(label="To", required=False, help_text="including this day")
    customer = Picker(Price._meta.get_field("customer"), Customer.objects.all())
    model = forms.CharField(required=False, max_length=200, validators=[patterns.check], help_text="Name or pattern.")

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        """A form that offers the customers whom this person may see."""
        super().__init__(*args, **kwargs)
        limit(self.fields.values(), user)

    def which(self) -> Which:
        """The calls that the form says."""
        given = self.cleaned_data
        until = given["until"] and datetime.combine(given["until"] + timedelta(days=1), time(), UTC)
        return Which(datetime.combine(given["since"], time(), UTC), until, given["customer"], given["model"])


class RepriceForm(RangeForm):
    """Calls that are priced again, and why."""

    reason = forms.CharField(max_length=200, help_text="Stored with each adjustment.")


class WhatIfForm(RangeForm):
    """Calls, and what is different."""

    instead = forms.CharField(label="Another model", required=False, max_length=200)
    provider = forms.ChoiceField(
        label="Another provider", required=False, choices=lambda: [("", "the same"), *provider_kinds.choices()]
    )
    percent = forms.DecimalField(
        required=False, min_value=-100, max_value=10_000, max_digits=9, decimal_places=4, help_text="-15 is a discount."
    )
    only = forms.ChoiceField(
        label="Calls", required=False, choices=[("", "all"), ("unpriced", "those without a price")]
    )


def bounded(form: RangeForm, rows: Rows, command: str) -> Rows | None:
    """The calls that a form says; None, with an error in the form, if they are too many or the range is empty."""
    try:
        found = form.which().rows(rows)
    except Unusable as error:
        form.add_error("until", str(error))
        return None
    if found.order_by()[: MOST + 1].count() > MOST:
        form.add_error(None, f"{TOO_MANY} {command}.")
        return None
    return found


@require_http_methods(["GET", "HEAD", "POST"])
def reprice(request: HttpRequest) -> HttpResponse:
    """What pricing calls again would change; a POST writes the adjustments."""
    form = RepriceForm(request.POST or request.GET or None, user=request.user)
    outcome: Outcome | None = None
    if form.is_valid():
        rows = bounded(form, visible(request.user, LedgerEntry.objects.all(), "reprice"), "reprice")
        if rows is not None and request.method == "POST":
            reason, author = form.cleaned_data["reason"], request.user.get_username()
            done = repricing.reprice(rows, Prices(timezone.now()), reason=reason, author=author)
            note(
                "repriced", "usage_ledgerentry", since=form.cleaned_data["since"], calls=done.total.calls, reason=reason
            )
            messages.success(request, f"{done.total.calls:,} adjustments are written.")
            given = urlencode({name: request.POST.get(name, "") for name in form.fields})
            return HttpResponseRedirect(f"{reverse('admin:reprice')}?{given}")
        if rows is not None:
            outcome = repricing.preview(rows, Prices(timezone.now()))
    context = admin.site.each_context(request) | {"title": "Price calls again", "form": form, "outcome": outcome}
    return TemplateResponse(request, "admin/prices/reprice.html", context)


@require_safe
def otherwise(request: HttpRequest) -> HttpResponse:
    """What calls would have cost with another model, provider or discount."""
    form = WhatIfForm(request.GET or None, user=request.user)
    outcome, models = None, []
    if form.is_valid():
        given = form.cleaned_data
        rows = bounded(form, visible(request.user, LedgerEntry.objects.all()), "what_if")
        instead = Instead(given["instead"], given["provider"], given["percent"] or Decimal(0))
        if rows is not None and given["only"]:
            models = sorted(unpriced_models(rows).items())
            rows = unpriced(rows)
        if rows is not None:
            outcome = what_if(rows, Prices(timezone.now()), instead)
    context = admin.site.each_context(request) | {
        "title": "What if",
        "form": form,
        "outcome": outcome,
        "models": models,
    }
    return TemplateResponse(request, "admin/prices/what_if.html", context)


rooms.BILLING.add(
    Page("Price again", "admin:reprice", (names.REPRICE,), route="billing/reprice/", view=reprice),
    Page("What if", "admin:what_if", ("usage.view_price",), route="billing/what-if/", view=otherwise),
)
