"""Pages: list prices on any day beside own ones, and what a call costs an owner."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.http import require_safe

from administration import rooms
from administration.prices import listed
from administration.prices.look import look, owner_of
from administration.rooms import Page
from keys import provider_kinds
from keys.form_fields import DayField
from keys.models import Customer, Team, VirtualKey
from keys.pickers import Picker, limit
from usage.listings import catalogue_version
from usage.price_tables import Price
from usage.tokens import TokenCounts

VIEW = ("usage.view_price",)
MOST_TOKENS = 10**9


def provider_choices() -> list[tuple[str, str]]:
    """The kinds of providers."""
    return list(provider_kinds.choices())


class ListForm(forms.Form):
    """Which prices to list, and for which day. Everything stands in the URL."""

    q = forms.CharField(label="Model", required=False, max_length=200, help_text="A part of its name.")
    provider = forms.ChoiceField(required=False, choices=lambda: [("", "all"), *provider_choices()])
    on = DayField(label="On", required=False, help_text="The end of that day, UTC; empty: now.")


class LookForm(forms.Form):
    """A call: of which model, when, by whom, and how many tokens."""

    provider = forms.ChoiceField(choices=provider_choices)
    model = forms.CharField(
        max_length=200, widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    )
    on = DayField(label="On", required=False, help_text="The end of that day, UTC; empty: now.")
    customer = Picker(Price._meta.get_field("customer"), Customer.objects.all())
    team = Picker(Price._meta.get_field("team"), Team.objects.select_related("customer"))
    key = Picker(Price._meta.get_field("virtual_key"), VirtualKey.objects.select_related("customer", "team"))
    input_tokens = forms.IntegerField(label="Input tokens", min_value=0, max_value=MOST_TOKENS, initial=1_000_000)
    output_tokens = forms.IntegerField(label="Output tokens", min_value=0, max_value=MOST_TOKENS, initial=0)

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        """A form that offers the owners whom this person may see."""
        super().__init__(*args, **kwargs)
        limit(self.fields.values(), user)


@require_safe
def prices(request: HttpRequest) -> HttpResponse:
    """The list of models with their prices on a day."""
    form = ListForm(request.GET)
    part, lines = None, list[listed.Line]()
    if form.is_valid():
        asked = form.cleaned_data
        part, lines = listed.page(asked["provider"], asked["q"], asked["on"], request.GET.get("page", "1"))
    query = request.GET.copy()
    query.pop("page", None)
    context = admin.site.each_context(request) | {
        "title": "Prices",
        "form": form,
        "part": part,
        "lines": lines,
        "at": listed.moment_of(form.cleaned_data.get("on")) if form.is_valid() else None,
        "on": request.GET.get("on", ""),
        "query": query.urlencode(),
        "catalogue": catalogue_version(),
    }
    return TemplateResponse(request, "admin/prices/list.html", context)


@require_safe
def price(request: HttpRequest) -> HttpResponse:
    """What a call of a model costs an owner, and which own prices make it so."""
    form = LookForm(request.GET if "model" in request.GET else None, user=request.user)
    asked = dict(request.GET.items())
    if form.is_bound and not {"input_tokens", "output_tokens"} & asked.keys():
        # A link from the list names the model alone.
        form = LookForm(asked | {"input_tokens": 1_000_000, "output_tokens": 0}, user=request.user)
    found = None
    if form.is_valid():
        given = form.cleaned_data
        counts = TokenCounts(input_tokens=given["input_tokens"], output_tokens=given["output_tokens"])
        owner = owner_of(given["customer"], given["team"], given["key"])
        found = look(given["provider"], given["model"], listed.moment_of(given["on"]), owner, counts)
    context = admin.site.each_context(request) | {
        "title": "What a call costs",
        "form": form,
        "asked": form.is_bound and form.is_valid(),
        "look": found,
    }
    return TemplateResponse(request, "admin/prices/look.html", context)


rooms.BILLING.add(
    Page("Prices", "admin:prices", VIEW, route="billing/prices/", view=prices),
    Page("What a call costs", "admin:price", VIEW, route="billing/price/", view=price),
    first=True,
)
