"""The page of one provider key, and what people do there: test it, end its cool-downs, replace its secret."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from administration import rooms
from administration.owners.pages import one
from administration.providers import standing
from administration.roles import may, names, visible
from administration.rooms import Page
from keys import provider_checks, provider_keys
from keys.errors import Unusable
from keys.models import CheckState, Cooldown, ProviderKey
from keys.uncached import framed
from messages_api.relay import key_call
from usage import request_ids, rollups
from usage.amounts import usd
from usage.models import LedgerEntry

ECHO_MODEL = "echo-1"


class CallForm(forms.Form):
    """A test call."""

    model = forms.CharField(
        max_length=200, widget=forms.TextInput(attrs={"list": "models", "autocomplete": "off", "spellcheck": "false"})
    )


class SecretForm(forms.Form):
    """A new secret. It is never shown again, not even after a mistake."""

    secret = forms.CharField(
        max_length=provider_keys.SECRET_LENGTH,
        strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        label="New secret",
    )


@require_safe
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """The page.

    Raises:
        Http404: there is no such provider key, or this person may not see it.
    """
    return page(request, found(request, pk))


def found(request: HttpRequest, pk: int) -> ProviderKey:
    """The provider key of a URL.

    Raises:
        Http404: there is no such provider key, or this person may not see it.
    """
    row: ProviderKey = one(visible(request.user, ProviderKey.objects.select_related("last_check")), pk)
    return row


def page(
    request: HttpRequest, row: ProviderKey, *, call: CallForm | None = None, secret: SecretForm | None = None
) -> HttpResponse:
    """The page, with the forms that were filled in wrongly."""
    user, now = request.user, timezone.now()
    rollups.freshen()
    before = request.GET.get("before", "")
    offered, more_models = standing.models(row)
    first = offered[0].name if offered else ECHO_MODEL if row.provider == "echo" else ""
    changes = may(user, "keys.change_providerkey", row)
    context = admin.site.each_context(request) | {
        "title": f"Provider key {row}",
        "row": row,
        "check": getattr(row, "last_check", None),
        "cooldowns": Cooldown.objects.filter(provider_key=row).order_by("model"),
        "now": now,
        "lately": standing.lately(row, now),
        "latency": standing.latency(row, now),
        "looked_at": standing.LOOKED_AT,
        "dependants": standing.dependants(row, user, int(before) if before.isdecimal() and len(before) < 19 else None),
        "before": before,
        "offered": offered,
        "more_models": more_models,
        "changes": changes,
        "tests": may(user, names.TEST_PROVIDER_KEY, row),
        "call": call or CallForm(initial={"model": first}) if may(user, names.CALL_PROVIDER_KEY, row) else None,
        "resets": may(user, names.END_COOLDOWN),
        "secret": (secret or SecretForm()) if changes and row.kind.takes_secret else None,
    }
    status = 400 if call or secret else 200
    return framed(request, "admin/providers/key.html", context, status=status)


def back(row: ProviderKey) -> HttpResponse:
    """Back to the page, which shows what was done."""
    return HttpResponseRedirect(reverse("admin:provider_key", args=[row.pk]))


@require_POST
def test_call(request: HttpRequest, pk: int) -> HttpResponse:
    """Call a model with the provider key, and say what came of it."""
    row = found(request, pk)
    form = CallForm(request.POST)
    if not form.is_valid():
        return page(request, row, call=form)
    try:
        tried = key_call.call(row, form.cleaned_data["model"])
    except Unusable as error:
        messages.warning(request, f"“{row}” was not tested: {error}.")
        return back(row)
    entry = LedgerEntry.objects.filter(pk=tried.call).first()
    answered = f"answered in {tried.milliseconds} ms" if tried.works else f"did not answer: {tried.message}"
    cost = f", for {usd(entry.cost)}" if entry is not None else ""
    said = format_html("“{}” {} (HTTP {}){}.", row, answered.rstrip("."), tried.status, cost)
    if entry is not None:
        url = reverse("admin:call", args=[request_ids.request_id(tried.call)])
        said = format_html('{} <a href="{}">The call</a>', said, url)
    messages.add_message(request, messages.SUCCESS if tried.works else messages.WARNING, said)
    return back(row)


def tell(request: HttpRequest, row: ProviderKey) -> None:
    """Test the provider key, and say what came of it."""
    (result,) = provider_checks.check(row)
    if result is None:
        messages.info(request, f"“{row}” was not tested: there is nothing to test.")
        return
    level = messages.SUCCESS if result.state == CheckState.WORKS else messages.WARNING
    messages.add_message(request, level, f"“{row}” was tested: {result}.")


@require_POST
def reset(request: HttpRequest, pk: int) -> HttpResponse:
    """End the provider key's cool-downs, and forget its failures."""
    row = found(request, pk)
    ended = list(Cooldown.objects.filter(provider_key=row))
    Cooldown.objects.filter(pk__in=[each.pk for each in ended]).delete()
    names_of = ", ".join(each.model or "all models" for each in ended)
    messages.success(request, f"Calls go to “{row}” again: {names_of}." if ended else f"“{row}” has no cool-down.")
    return back(row)


@sensitive_post_parameters("secret")
@require_POST
def replace_secret(request: HttpRequest, pk: int) -> HttpResponse:
    """Replace the secret and nothing else, and test the new one.

    Raises:
        Http404: the provider key needs no secret, or this person may not see it.
    """
    row = found(request, pk)
    if not row.kind.takes_secret:
        raise Http404("There is no such page.")
    form = SecretForm(request.POST)
    if form.is_valid():
        try:
            provider_keys.set_secret(row, form.cleaned_data["secret"])
        except Unusable as error:
            form.add_error("secret", str(error))
    if not form.is_valid():
        return page(request, row, secret=form)
    messages.success(request, f"The secret of “{row}” was replaced. The next call uses the new one.")
    tell(request, row)
    return back(row)


def _of_key(title: str, name: str, permission: str, route: str, view: Any) -> Page:
    return Page(title, f"admin:{name}", (permission,), route=f"provider-key/<int:pk>/{route}", view=view, linked=False)


rooms.PROVIDERS.add(
    _of_key("Provider key", "provider_key", "keys.view_providerkey", "", show),
    _of_key("Test with a call", "provider_key_call", names.CALL_PROVIDER_KEY, "call/", test_call),
    _of_key("Reset", "provider_key_reset", names.END_COOLDOWN, "reset/", reset),
    _of_key("Replace the secret", "provider_key_secret", "keys.change_providerkey", "secret/", replace_secret),
)
