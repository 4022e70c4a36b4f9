"""The way from an empty database to a first answered call: five steps, each with a check mark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, Model, QuerySet, Subquery
from django.urls import reverse

from administration.roles import visible
from keys import own_keys
from keys.kept_admin import SOME_MODEL, THEN_OVERVIEW, example_model
from keys.models import Customer, Gateway, ProviderKey, Team, VirtualKey
from usage.models import LedgerEntry


@dataclass(frozen=True, slots=True)
class Step:
    """A step: what to do, why, where, and whether it is done. `may`: whether this person may do it."""

    title: str
    why: str
    url: str
    done: bool
    may: bool


@dataclass(frozen=True, slots=True)
class Path:
    """The steps. `model` is what the first call asks for."""

    steps: list[Step]
    model: str

    @property
    def next(self) -> Step | None:
        """The first step that isn't done."""
        return next((step for step in self.steps if not step.done), None)


# Each with the step before that its form is filled in with, if the model has a field for it.
STEPS: tuple[tuple[type[Model], str, str, str], ...] = (
    (
        ProviderKey,
        "",
        "Add a provider key",
        "The gateway calls the provider with it. To try without one, choose “Echo”.",
    ),
    (Customer, "", "Add a customer", "The company or cost centre that pays."),
    (Team, "customer", "Add a team", "Its keys share budgets, limits and files."),
    (
        VirtualKey,
        "team",
        "Issue a virtual key",
        "Clients call with it. Its page can add the customer and the team, too.",
    ),
)


def newest(rows: QuerySet[Any]) -> Subquery:
    """The id of the newest row."""
    return Subquery(rows.order_by("-pk").values("pk")[:1])


def path(user: Any) -> Path | None:
    """The steps, until the first call is in the ledger; None afterwards. At most three queries."""
    found = {
        "providerkey": Exists(ProviderKey.objects.filter(active=True)),
        "customer": newest(visible(user, Customer.objects.exclude(name=own_keys.CUSTOMER), "choose")),
        "team": newest(visible(user, Team.objects.all(), "choose")),
        "virtualkey": Exists(VirtualKey.objects.filter(passthrough=False, revoked_at=None)),
        "call": Exists(LedgerEntry.objects.exclude(customer__name=own_keys.CUSTOMER).order_by()),
    }
    state = Gateway.objects.annotate(**found).values(*found).first() or dict.fromkeys(found)
    if state["call"]:
        return None
    steps = []
    for model, before, title, why in STEPS:
        name = str(model._meta.model_name)
        query = THEN_OVERVIEW | ({before: state[before]} if before and state[before] else {})
        url = reverse(f"admin:keys_{name}_add", query=query)
        steps.append(Step(title, why, url, bool(state[name]), user.has_perm(f"keys.add_{name}")))
    steps.append(Step("Make the first call", "Paste this into a shell, then the virtual key.", "", False, True))
    key = VirtualKey.objects.filter(passthrough=False, revoked_at=None).order_by("-pk").first()
    return Path(steps, example_model(key) if key else SOME_MODEL)
