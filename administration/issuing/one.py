"""The page that issues one virtual key, and shows it once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from administration import rooms
from administration.issuing.like import likeness
from administration.issuing.terms import Own, TermsForm
from administration.roles import names as permissions
from administration.roles import visible
from administration.rooms import Page
from keys import names, viewer, virtual_keys
from keys.errors import Unusable
from keys.forms import at_field
from keys.models import VirtualKey
from keys.uncached import framed
from keys.virtual_key_admin import VirtualKeyAdmin
from usage.new_keys import Issued

ISSUE = (permissions.ISSUE_KEY,)


class IssueForm(TermsForm):
    """The terms of one new key, with its name."""

    name = forms.CharField(max_length=names.LENGTH, label="Name", help_text="Unique among the keys of its team.")

    field_order = ("name",)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if "name" in cleaned:
            with at_field(self, "name"):
                cleaned["name"] = names.check(cleaned["name"], "the virtual key")
                self._check_free(cleaned["name"])
        return cleaned

    def _check_free(self, name: str) -> None:
        customer, team = self.payer or (None, None)
        if customer is not None and customer.pk is not None and (team is None or team.pk is not None):
            virtual_keys.check_name(VirtualKey(name=name, customer=customer, team=team))

    def save(self) -> Issued:
        """Issue the key, with a new customer and team if they are new: all of it, or nothing.

        Raises:
            Unusable: by field where the fault is a field's.
        """
        with transaction.atomic():
            customer, team = self.save_payer()
            return self.issue(Own(self.cleaned_data["name"]), customer, team)


@require_http_methods(["GET", "HEAD", "POST"])
def issue(request: HttpRequest) -> HttpResponse:
    """The form; after it was sent, the new key, once."""
    if request.method == "POST":
        form = IssueForm(request.user, request.POST)
        if form.is_valid():
            try:
                issued = form.save()
            except Unusable as error:
                form.show(error)
            else:
                return shown(request, issued)
        return page(request, "one.html", "Issue a virtual key", form)
    form = IssueForm(request.user)
    left_out = begin(form, request.GET)
    return page(request, "one.html", "Issue a virtual key", form, left_out=left_out)


def begin(form: TermsForm, given: QueryDict) -> list[str]:
    """Fill an empty form from the URL: `like`, `team` or `customer`. Returns what can't be taken over from a key."""
    found = _number(given.get("like"))
    like = visible(form.user, VirtualKey.objects.filter(pk=found, passthrough=False)).first() if found else None
    if like is not None:
        same = likeness(like, form)
        form.initial = {**form.initial, **same.initial}
        return same.left_out
    owner = {name: number for name in ("team", "customer") if (number := _number(given.get(name)))}
    form.initial = {**form.initial, **owner}
    return []


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 19 else None


def page(request: HttpRequest, template: str, title: str, form: TermsForm, **more: Any) -> HttpResponse:
    """A page with a form of terms."""
    context = {
        "title": title,
        "form": form,
        "query": request.GET.urlencode(),
        "may_add_provider_key": request.user.has_perm("keys.add_providerkey"),
    }
    return framed(request, f"admin/issuing/{template}", context | more)


def shown(request: HttpRequest, issued: Issued) -> HttpResponse:
    """The page that shows the new key, with its terms and first calls."""
    key = issued.virtual_key
    key_pages = admin.site.get_model_admin(VirtualKey)
    assert isinstance(key_pages, VirtualKeyAdmin)
    key_pages.log_addition(request, key, [{"added": {}}])
    return key_pages.shown_once(
        request,
        key,
        f"Virtual key “{key}”",
        issued.plain,
        f"It belongs to {key.belongs_to}.",
        terms=[*_terms(issued)],
        like=f"{reverse('admin:keys_virtualkey_add')}?like={key.pk}",
    )


def _terms(issued: Issued) -> Iterator[str]:
    for budget in issued.budgets:
        yield budget.terms()
    for limit in issued.limits:
        yield limit.terms()
    if issued.virtual_key.expires_at is not None:
        yield f"expires {viewer.moment(issued.virtual_key.expires_at)}"


rooms.KEYS.add(
    Page(
        "Issue a virtual key",
        "admin:keys_virtualkey_add",
        ISSUE,
        route="keys/virtualkey/add/",
        view=issue,
        linked=False,
    ),
)
