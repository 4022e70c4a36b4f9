"""The pages of one virtual key, one team and one customer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from administration import rooms
from administration.owners import standing
from administration.owners.secrets import old_ones, secrets
from administration.roles import may, names, visible
from administration.rooms import Page
from keys.models import Credential, CredentialKind, Customer, Team, VirtualKey, VirtualKeyRoute
from keys.uncached import framed
from messages_api.relay.why import INPUT_TOKENS, MOST_TOKENS, Size, WhyAnswer, why
from messages_api.server.errors import GatewayError
from usage import key_rules, owner_days, rollups
from usage.models import LedgerEntry

# Secrets and keys that a page lists; a link leads to all.
LISTED = 8
TITLES = {VirtualKey: "Virtual key", Team: "Team", Customer: "Customer"}


@dataclass(frozen=True, slots=True)
class Tool:
    """What can be done with an owner: a link to a page, or a button that does it at once (`posts`)."""

    title: str
    url: str
    posts: bool = False
    risky: bool = False


class CallForm(forms.Form):
    """A call of which a person asks whether a key may make it."""

    model = forms.CharField(max_length=200, widget=forms.TextInput(attrs={"list": "models", "autocomplete": "off"}))
    input_tokens = forms.IntegerField(min_value=1, max_value=MOST_TOKENS, required=False, label="Tokens to read")
    max_tokens = forms.IntegerField(min_value=1, max_value=MOST_TOKENS, required=False, label="max_tokens")

    def size(self) -> Size:
        """The call's size; empty fields mean a page or two, and the key's default."""
        return Size(self.cleaned_data["input_tokens"] or INPUT_TOKENS, self.cleaned_data["max_tokens"])


@require_safe
def key(request: HttpRequest, pk: int) -> HttpResponse:
    """The page of a virtual key; with `model` in the URL, whether it may make such a call.

    Raises:
        Http404: there is no such key, or this person may not see it.
    """
    rows = VirtualKey.objects.select_related("customer", "team__customer").filter(passthrough=False)
    found: VirtualKey = one(visible(request.user, rows), pk)
    routes = list(VirtualKeyRoute.objects.filter(virtual_key=found).select_related("provider_key").order_by("pk"))
    form = CallForm(request.GET) if "model" in request.GET else CallForm()
    known = secrets(found, request.user)
    old = old_ones(known)
    own = next((each.credential for each in known or () if each.credential.kind == CredentialKind.VIRTUAL_KEY), None)
    context = {
        "routes": routes,
        "secrets": known,
        "old_secrets": old,
        "may_end_old": bool(old) and not found.revoked_at and may(request.user, names.ROTATE_KEY, found),
        "last_use": max((each.use for each in known or () if each.use), key=lambda use: use.used_at, default=None),
        "form": form,
        "answer": answer_to(found, form, own),
        "models": suggestions(found, routes),
        "max_tokens": lowest(found.max_tokens, found.team.max_tokens if found.team else None),
        "tools": tools(found, request.user),
    }
    return page(request, found, context)


@require_safe
def team(request: HttpRequest, pk: int) -> HttpResponse:
    """The page of a team.

    Raises:
        Http404: there is no such team, or this person may not see it.
    """
    found: Team = one(visible(request.user, Team.objects.all()), pk)
    context = {
        "keys": latest_keys(request.user, team=found),
        "tools": tools(found, request.user),
        "rules": key_rules.of_team(found),
    }
    return page(request, found, context)


@require_safe
def customer(request: HttpRequest, pk: int) -> HttpResponse:
    """The page of a customer.

    Raises:
        Http404: there is no such customer, or this person may not see it.
    """
    found: Customer = one(visible(request.user, Customer.objects.all()), pk)
    teams = visible(request.user, Team.objects.filter(customer=found)).order_by("-pk")[:LISTED]
    context = {
        "keys": latest_keys(request.user, customer=found),
        "teams": list(teams),
        "tools": tools(found, request.user),
    }
    return page(request, found, context)


def one(rows: QuerySet[Any], pk: int) -> Any:
    """The row with this id.

    Raises:
        Http404: the person may not see it, or it doesn't exist.
    """
    found = rows.filter(pk=pk).first()
    if found is None:
        raise Http404("There is no such page.")
    return found


def page(request: HttpRequest, owner: standing.Owner, more: dict[str, Any]) -> HttpResponse:
    """The page of an owner, with what all owners have."""
    user = request.user
    rollups.freshen()
    usage = owner_days.usage_of(standing.place(owner))
    sees_calls = may(user, "usage.view_ledgerentry")
    calls = standing.latest_calls(owner, user) if sees_calls else []
    parameter = {VirtualKey: "key", Team: "team", Customer: "customer"}[type(owner)]
    context = admin.site.each_context(request) | {
        "title": f"{TITLES[type(owner)]} {owner}",
        "owner": owner,
        "kind": parameter,
        "usage": usage,
        "bars": standing.chart(usage.days),
        "height": standing.HEIGHT,
        "budgets": standing.budgets(owner, user),
        "limits": standing.limits(owner, user),
        "calls": calls,
        "last_call": last_call(calls),
        "sees_calls": sees_calls,
        "calls_url": f"{reverse('admin:calls')}?{parameter}={owner.pk}",
        "refusals": standing.latest_refusals(owner, user) if may(user, "usage.view_refusal") else None,
        "changes": standing.changes(owner, user),
        "history_url": f"{reverse('admin:keys_auditevent_changelist')}?q={owner._meta.db_table}:{owner.pk}",
    }
    return framed(request, f"admin/owners/{parameter}.html", context | more)


def last_call(calls: list[LedgerEntry]) -> LedgerEntry | None:
    """The latest call."""
    return calls[0] if calls else None


def latest_keys(user: Any, **owner: Any) -> list[VirtualKey]:
    """The newest keys of an owner that this person may see."""
    rows = visible(user, VirtualKey.objects.filter(passthrough=False, **owner))
    return list(rows.order_by("-pk")[:LISTED])


def answer_to(virtual_key: VirtualKey, form: CallForm, credential: Credential | None) -> WhyAnswer | None:
    """Whether the key may make the form's call; None for a form that asks nothing yet.

    Args:
        credential: its newest secret, where that was read already.
    """
    if not (form.is_bound and form.is_valid()):
        return None
    try:
        return why(virtual_key, form.cleaned_data["model"], form.size(), credential)
    except GatewayError as error:
        form.add_error(None, error.message)
        return None


def suggestions(virtual_key: VirtualKey, routes: list[VirtualKeyRoute]) -> list[str]:
    """Models that the key may use, where its settings name any."""
    served = [pattern for route in routes for pattern in route.provider_key.model_patterns]
    return sorted({name for name in (*virtual_key.allowed_models, *served) if "*" not in name})


def lowest(*ceilings: int | None) -> int | None:
    """The lowest of some ceilings; None stands for no ceiling."""
    return min((ceiling for ceiling in ceilings if ceiling is not None), default=None)


def tools(owner: standing.Owner, user: Any) -> list[Tool]:
    """What the person may do with an owner; what can't be undone comes last."""
    name = owner._meta.model_name
    found = []
    if not isinstance(owner, VirtualKey) and may(user, names.ISSUE_KEY, VirtualKey(**owner_of_new_key(owner))):
        found.append(Tool("Issue a virtual key", f"{reverse('admin:keys_virtualkey_add')}?{name}={owner.pk}"))
    if user.has_perm(f"keys.change_{name}", owner) and not getattr(owner, "revoked_at", None):
        found.append(Tool("Edit", reverse(f"admin:keys_{name}_change", args=[owner.pk])))
    return found + key_tools(owner, user) if isinstance(owner, VirtualKey) else found


def key_tools(virtual_key: VirtualKey, user: Any) -> list[Tool]:
    """What the person may do with a key, beyond editing it."""
    pausing = "Pause" if virtual_key.active else "Resume"
    works = virtual_key.revoked_at is None
    found = []
    for title, permission, possible in (
        ("Rotate", names.ROTATE_KEY, works),
        (pausing, names.PAUSE_KEY, works),
        ("Issue like this one", names.ISSUE_KEY, True),
        ("Revoke", names.REVOKE_KEY, works),
    ):
        if possible and may(user, permission, virtual_key):
            url = (
                f"{reverse('admin:keys_virtualkey_add')}?like={virtual_key.pk}"
                if permission == names.ISSUE_KEY
                else reverse(f"admin:keys_virtualkey_{title.lower()}", args=[virtual_key.pk])
            )
            found.append(Tool(title, url, posts=title == pausing, risky=title == "Revoke"))
    return found


def owner_of_new_key(owner: Customer | Team) -> dict[str, Any]:
    """The owner of a key that would be issued on this page."""
    return {"customer": owner} if isinstance(owner, Customer) else {"customer": owner.customer, "team": owner}


rooms.KEYS.add(
    Page("Virtual key", "admin:key", ("keys.view_virtualkey",), route="key/<int:pk>/", view=key, linked=False),
    Page("Team", "admin:team", ("keys.view_team",), route="team/<int:pk>/", view=team, linked=False),
    Page(
        "Customer", "admin:customer", ("keys.view_customer",), route="customer/<int:pk>/", view=customer, linked=False
    ),
)
