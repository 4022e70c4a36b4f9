"""The form of a new key's terms: who pays, what it may use, its budget and limits. One key and many keys share it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from django import forms
from django.db.models import Model

from administration.issuing.offered import offered
from administration.roles import names, visible
from keys import ceilings, customers, issuing
from keys.errors import Unusable
from keys.form_fields import LabelsField, expiry
from keys.forms import at_field
from keys.models import MOST_TOKENS, Customer, ProviderKey, Team, VirtualKey
from keys.names import LENGTH
from keys.pickers import ID, Picker, limit
from usage import budget_terms, key_rules, new_keys
from usage.budget_terms import LimitTerms, Terms
from usage.budgets import MOST, Budget, Enforcement, Period, Unit
from usage.limits import Limit, LimitKind
from usage.new_keys import Issued

WITHOUT = "without"
PERIODS = [*key_rules.PERIODS, (WITHOUT, "no budget")]
LONGEST_LIST = 4000
MOST_ROUTES = 50
SEPARATORS = re.compile(r"[\s,]+")
NEW = "Or type the name of a new one."


@dataclass(frozen=True, slots=True)
class Own:
    """What one key of many has of its own, instead of the form's."""

    name: str
    owner: str | None = None
    budget: Terms | None = None
    limits: Mapping[LimitKind, int] = field(default_factory=dict)
    expires_at: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


def _reference(name: str) -> Any:
    return VirtualKey._meta.get_field(name)


def _picker(name: str, rows: Any, **options: Any) -> Picker:
    found = Picker(_reference(name), rows, **options)
    found.empty_label = "none"
    return found


def _list(label: str, text: str, **attrs: Any) -> forms.CharField:
    widget = forms.TextInput(attrs={"autocomplete": "off", **attrs})
    return forms.CharField(label=label, required=False, max_length=LONGEST_LIST, help_text=text, widget=widget)


def _lines(label: str, text: str, rows: int = 2) -> forms.CharField:
    widget = forms.Textarea(attrs={"rows": rows, "cols": 30})
    return forms.CharField(label=label, required=False, max_length=LONGEST_LIST, help_text=text, widget=widget)


def _rate(label: str) -> forms.IntegerField:
    return forms.IntegerField(label=label, required=False, min_value=1, max_value=int(MOST))


class TermsForm(forms.Form):
    """The terms of new keys, as one person may set them. Empty fields take what the team's rules say.

    Attributes:
        LIMITS, MORE: the names of fields of a part of the page.
    """

    LIMITS = ("rpm", "input_tpm", "output_tpm", "parallel")
    MORE = (
        *("denied_models", "fallback_models", "max_tokens", "default_max_tokens"),
        *("enforcement", "more_budgets", "adaptive_weights"),
    )

    team = _picker("team", Team.objects.all(), help_text="Search by its name or its customer's.")
    new_team = forms.CharField(required=False, max_length=LENGTH, label="New team", help_text="Instead of one above.")
    customer = _picker(
        "customer", Customer.objects.all(), help_text="Of the new team, or of a key that belongs to no team."
    )
    new_customer = forms.CharField(required=False, max_length=LENGTH, label="New customer", help_text="Who pays.")
    owner = forms.CharField(
        required=False,
        max_length=LENGTH,
        label="Owner",
        help_text="The person or service that answers for it. An e-mail address gets a notice before the key expires.",
    )
    provider_keys = forms.ModelMultipleChoiceField(
        ProviderKey.objects.none(), label="Provider keys", widget=forms.CheckboxSelectMultiple
    )
    picked = forms.MultipleChoiceField(required=False, label="Models")
    allowed_models = _list(
        "Other names and patterns", "Such as claude-*, separated by commas. With no model at all: all that are served."
    )
    budget = forms.DecimalField(
        label="Budget, USD", required=False, min_value=0, max_value=MOST, max_digits=30, decimal_places=12
    )
    period = forms.ChoiceField(label="Per", choices=PERIODS, initial=Period.MONTH.value)
    rpm = _rate("Requests a minute")
    input_tpm = _rate("Input tokens a minute")
    output_tpm = _rate("Output tokens a minute")
    parallel = _rate("Calls at once")
    expires_at = expiry()
    labels = LabelsField()
    denied_models = _list("Denied models", "Names and patterns. They win over the allowed ones.")
    fallback_models = _list("Fallback models", "To try in turn if the requested one can't answer.")
    max_tokens = forms.IntegerField(
        label="Most max_tokens", required=False, min_value=1, max_value=MOST_TOKENS, help_text="Of a call."
    )
    default_max_tokens = forms.IntegerField(
        label="Default max_tokens", required=False, min_value=1, max_value=MOST_TOKENS, help_text="Of calls without it."
    )
    enforcement = forms.ChoiceField(label="The budget is", choices=Enforcement.choices, initial=Enforcement.HARD.value)
    more_budgets = _lines("More budgets", "One a line: 20/day, 5000000tokens/day, 50/week/soft.")
    adaptive_weights = forms.BooleanField(
        label="Adaptive weights",
        required=False,
        help_text="A provider key that fails often or is slow gets fewer conversations.",
    )

    def __init__(self, user: Any, *args: Any, **kwargs: Any) -> None:
        self.user = user
        super().__init__(*args, **kwargs)
        provider_keys = visible(user, ProviderKey.objects.filter(active=True).order_by("name"), "choose")
        self.keys = list(provider_keys)
        self.offered = offered(self.keys)
        limit(self.fields.values(), user)
        self._field("provider_keys").queryset = provider_keys
        self.initial.setdefault("provider_keys", [key.pk for key in self.keys[:MOST_ROUTES]])
        self._field("picked").choices = [(model.name, model.name) for model in self.offered]
        if not self.offered:
            self._field("allowed_models").label = "Models"
        for key in self.keys if len(self.keys) > 1 else []:
            weight = forms.IntegerField(
                label=f"Weight of {key.name}", required=False, min_value=1, max_value=issuing.MAX_WEIGHT
            )
            self.fields[f"weight_{key.pk}"] = weight
            self.initial.setdefault(f"weight_{key.pk}", 1)
        self._leave_out()

    def _field(self, name: str) -> Any:
        return self.fields[name]

    def _leave_out(self) -> None:
        """Remove the fields that this person may not use."""
        for permission, fields in (
            ("keys.add_customer", ("new_customer",)),
            ("keys.add_team", ("new_team",)),
            ("usage.add_budget", ("budget", "period", "enforcement", "more_budgets")),
            ("usage.add_limit", self.LIMITS),
        ):
            if not self.user.has_perm(permission):
                for name in fields:
                    del self.fields[name]

    # Parts of the page

    def part(self, *wanted: str) -> list[Any]:
        """The fields of these names that the form has."""
        return [self[name] for name in wanted if name in self.fields]

    def who_fields(self) -> list[Any]:
        """The fields that name the key and its owners."""
        return self.part("name", "team", "owner")

    def new_fields(self) -> list[Any]:
        """The fields for a new team or customer, and for a key without a team."""
        return self.part("new_team", "customer", "new_customer")

    def bound_fields(self) -> list[Any]:
        """The fields of what it may spend, how fast and for how long."""
        return self.part("budget", "period", *self.LIMITS, "expires_at", "labels")

    def more_fields(self) -> list[Any]:
        """The fields that most people leave as they are."""
        return self.part(*self.MORE, *(name for name in self.fields if name.startswith("weight_")))

    def more_is_used(self) -> bool:
        """Whether one of these fields has another value than at first, or a fault."""
        return any(
            shown.errors or str(shown.value() or "") not in ("", "False", "1", Enforcement.HARD.value)
            for shown in self.more_fields()
        )

    def owner_is_new(self) -> bool:
        """Whether the fields for a new team or customer are shown: no team can be chosen, or they are used."""
        used = any(shown.value() or shown.errors for shown in self.part("new_team", "customer", "new_customer"))
        return used or not self._field("team").queryset.exists()

    def models(self) -> list[tuple[Any, bool]]:
        """The offered models, and whether each is picked."""
        picked = set(self["picked"].value() or ())
        return [(model, model.name in picked) for model in self.offered]

    def rules(self) -> key_rules.KeyRules | None:
        """The rules of the team that is chosen on the page."""
        team = self["team"].value()
        chosen = self._field("team").queryset.filter(pk=team).first() if ID.fullmatch(str(team or "")) else None
        return key_rules.of_team(chosen)

    # Checks

    def clean_provider_keys(self) -> list[ProviderKey]:
        chosen = list(self.cleaned_data["provider_keys"])
        if len(chosen) > MOST_ROUTES:
            raise forms.ValidationError(f"Choose at most {MOST_ROUTES} provider keys.")
        return chosen

    def _patterns(self, name: str) -> list[str]:
        given = [part for part in SEPARATORS.split(self.cleaned_data.get(name, "")) if part]
        with at_field(self, name):
            for pattern in given:
                issuing.check_pattern(pattern)
        return list(dict.fromkeys(given))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        typed = self._patterns("allowed_models")
        self.allowed = list(dict.fromkeys([*cleaned.get("picked", []), *typed]))
        self.denied = self._patterns("denied_models")
        self.fallbacks = self._patterns("fallback_models")
        with at_field(self, "fallback_models"):
            issuing.check_fallbacks(self.fallbacks)
        if "provider_keys" in cleaned and "allowed_models" not in self.errors:
            with at_field(self, "allowed_models"):
                issuing.check_reach(self.allowed, cleaned["provider_keys"])
        with at_field(self, "expires_at"):
            issuing.check_expiry(cleaned.get("expires_at"))
        self._check_max_tokens(cleaned)
        self.budgets = self._budgets(cleaned)
        self.payer = self._payer(cleaned)
        return cleaned

    def _check_max_tokens(self, cleaned: dict[str, Any]) -> None:
        bounds = {name: cleaned.get(name) for name in ("max_tokens", "default_max_tokens")}
        with at_field(self, "default_max_tokens"):
            issuing.check_max_tokens(VirtualKey(**bounds))

    def _budgets(self, cleaned: dict[str, Any]) -> list[Terms] | None:
        """The budgets that the form names; None if it leaves them to the team's rules."""
        found = []
        period, amount = cleaned.get("period"), cleaned.get("budget")
        if amount is not None and period == WITHOUT:
            self.add_error("period", "Choose a period for the budget, or leave its amount empty.")
        elif amount is not None and period:
            found.append(Terms(amount, Unit.USD, Period(period), Enforcement(cleaned.get("enforcement") or "hard")))
        with at_field(self, "more_budgets"):
            for line in cleaned.get("more_budgets", "").splitlines():
                if line.strip():
                    found.append(budget_terms.parse(line))
        if len({(terms.unit, terms.period) for terms in found}) < len(found):
            self.add_error("more_budgets", "Two budgets have the same period: name each period once.")
        return found if found or period == WITHOUT else None

    def _payer(self, cleaned: dict[str, Any]) -> tuple[Customer, Team | None] | None:
        """Who pays. New ones aren't saved yet. None if the form doesn't say it, and says so."""
        team, customer = cleaned.get("team"), cleaned.get("customer")
        new_team, new_customer = (cleaned.get(name, "").strip() for name in ("new_team", "new_customer"))
        if {"team", "customer", "new_team", "new_customer"} & self.errors.keys():
            return None
        if customer and new_customer:
            self.add_error("new_customer", "Choose a customer or type a new one, not both.")
            return None
        if team and new_team:
            self.add_error("new_team", "Choose a team or type a new one, not both.")
            return None
        if team:
            if new_customer or (customer and customer != team.customer):
                where = "new_customer" if new_customer else "customer"
                self.add_error(where, f"This team belongs to {team.customer}: leave this empty.")
                return None
            return team.customer, team
        if new_customer:
            customer = self._found(Customer, new_customer) or Customer(name=new_customer)
            if customer.pk is None and not self.user.has_perm("keys.add_customer", customer):
                self.add_error("new_customer", "You may not add customers: choose one.")
                return None
        if customer is None:
            open_field = "new_customer" if new_team and "new_customer" in self.fields else "team"
            self.add_error(open_field, "Say who pays: choose a team, or a customer, or type a new one.")
            return None
        return customer, self._new_team(customer, new_team) if new_team else None

    def _new_team(self, customer: Customer, name: str) -> Team:
        existing = self._found(Team, name, customer=customer) if customer.pk else None
        team = existing or Team(customer=customer, name=name)
        if existing is None and not self.user.has_perm("keys.add_team", team):
            self.add_error("new_team", "You may not add a team to this customer: choose a team.")
        return team

    def _found(self, model: Any, name: str, **more: Any) -> Any:
        return visible(self.user, model.objects.filter(name=name, **more), "choose").first()

    # Issuing

    def save_payer(self) -> tuple[Customer, Team | None]:
        """Add the customer and the team that are new.

        Raises:
            Unusable: a name is taken or doesn't suit.
        """
        assert self.payer is not None
        customer, team = self.payer
        if customer._state.adding:
            _save(customer, "new_customer")
        if team is not None and team._state.adding:
            team.customer = customer
            _save(team, "new_team")
        return customer, team

    def issue(self, own: Own, customer: Customer, team: Team | None) -> Issued:
        """Issue a key with the form's terms.

        Raises:
            Unusable: by field where the fault is a field's.
        """
        cleaned = self.cleaned_data
        key = VirtualKey(
            name=own.name,
            customer=customer,
            team=team,
            owner=cleaned["owner"].strip() if own.owner is None else own.owner,
            allowed_models=self.allowed,
            denied_models=self.denied,
            fallback_models=self.fallbacks,
            max_tokens=cleaned["max_tokens"],
            default_max_tokens=cleaned["default_max_tokens"],
            adaptive_weights=cleaned["adaptive_weights"],
            expires_at=own.expires_at or cleaned["expires_at"],
            labels={**cleaned["labels"], **own.labels},
        )
        if not self.user.has_perm(names.ISSUE_KEY, key):
            owner = team or customer
            raise Unusable(f"you may not issue keys for {owner}: choose a team of yours", {"team": []})
        rates = {kind: cleaned.get(kind.value) for kind in LimitKind} | dict(own.limits)
        budgets = [own.budget] if own.budget else self.budgets
        return new_keys.issue(
            key,
            [(chosen, cleaned.get(f"weight_{chosen.pk}") or 1) for chosen in cleaned["provider_keys"]],
            budgets=None if budgets is None else [self._budget(terms) for terms in budgets],
            limits=[self._limit(LimitTerms(kind, rate)) for kind, rate in rates.items() if rate],
            hold=partial(ceilings.hold, self.user),
        )

    def _budget(self, terms: Terms) -> Callable[[VirtualKey], Budget]:
        return partial(self._put, "usage.add_budget", partial(budget_terms.put, terms=terms))

    def _limit(self, pace: LimitTerms) -> Callable[[VirtualKey], Limit]:
        return partial(self._put, "usage.add_limit", partial(budget_terms.put_limit, pace=pace))

    def _put(self, permission: str, put: Callable[[VirtualKey], Any], key: VirtualKey) -> Any:
        row: Model = put(key)
        if not self.user.has_perm(permission, row):
            raise Unusable("you may not set budgets and limits for this owner: leave them empty")
        return row

    def show(self, error: Unusable) -> None:
        """Show a refusal beside the field that it is about."""
        fields = {name: texts for name, texts in error.fields.items() if name in self.fields}
        for name, texts in fields.items():
            self.add_error(name, _sentences(texts or [str(error)]))
        if not fields:
            self.add_error(None, _sentences([str(error)]))


def _sentences(texts: Any) -> list[str]:
    return [f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" for text in texts]


def _save(row: Customer | Team, where: str) -> None:
    try:
        customers.save(row)
    except Unusable as error:
        raise Unusable(str(error), {where: []}) from None


def amount_text(amount: Decimal) -> str:
    """An amount as a person types it: `50`, `0.25`."""
    return f"{amount.normalize():f}"
