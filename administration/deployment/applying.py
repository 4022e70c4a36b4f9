"""Changes a deployment to what was declared, in one transaction, and says what it changed.

The plan is what was done: a dry run does the same and takes it back. So the plan of a second run is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Model

from administration.deployment import declared
from administration.deployment.reading import Part
from keys import customers, issuing, key_terms, keyring, model_aliases, provider_keys, virtual_keys
from keys.errors import Unusable, refused
from keys.models import Customer, ModelAlias, ProviderKey, Team, VirtualKey
from usage import budget_terms, key_rules
from usage.budget_terms import LimitTerms, Scope
from usage.budgets import Budget, Period
from usage.limits import Limit
from usage.owners import Owner

ADDED, CHANGED, REMOVED = "+", "~", "-"
AUTHOR = "manage.py import"


@dataclass(slots=True)
class Plan:
    """What was changed.

    Attributes:
        lines: like `+ team Acme/Research` or `~ budget …`.
        secrets: the plain text of each new virtual key, by its address.
        refused: what could not be made, with the reason, where one fault doesn't stop the rest.
    """

    lines: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    refused: list[str] = field(default_factory=list)

    def note(self, sign: str, what: str, changes: Iterable[str] = ()) -> None:
        """Add a line."""
        said = "; ".join(changes)
        self.lines.append(f"{sign} {what}{': ' if said else ''}{said}")


@transaction.atomic
def apply(deployment: declared.Deployment, *, prune: bool = False, apart: bool = False) -> Plan:
    """Make the deployment what was declared. The caller's transaction keeps it or takes it back.

    Args:
        prune: revoke virtual keys, remove budgets and limits, and deactivate provider keys that aren't declared.
        apart: a row with a fault is left out, with all that belongs to it, and listed; the others are made.

    Raises:
        Unusable: with the place in the file; nothing was changed.
    """
    return _Work(prune, apart).run(deployment)


@contextmanager
def _at(part: Part) -> Iterator[None]:
    try:
        yield
    except Unusable as error:
        raise part.fault(str(error)) from None


class _Work:
    """One run: what it changes, and the ids of what was declared."""

    def __init__(self, prune: bool, apart: bool) -> None:
        self.prune = prune
        self.apart = apart
        self.plan = Plan()
        self.kept: dict[type[Model], set[int]] = {VirtualKey: set(), Budget: set(), Limit: set(), ProviderKey: set()}

    def run(self, deployment: declared.Deployment) -> Plan:
        for provider_key in deployment.provider_keys:
            with self.on_its_own(), _at(provider_key.part):
                self.provider_key(provider_key)
        for name, target in deployment.aliases.items():
            with self.on_its_own(), _at(Part(None, 0, f"aliases.{name}")):
                self.alias(name, target)
        for customer in deployment.customers:
            with self.on_its_own(customer):
                self.customer(customer)
        if self.prune:
            self.prune_rest()
        return self.plan

    @contextmanager
    def on_its_own(self, owner: declared.OfKeys | None = None) -> Iterator[None]:
        """Where faults stay apart, take back what the block did if it fails, and list the fault. The keys of an owner
        that fails are listed by name."""
        if not self.apart:
            yield
            return
        lines, secrets = len(self.plan.lines), dict(self.plan.secrets)
        try:
            with transaction.atomic():
                yield
        except Unusable as error:
            del self.plan.lines[lines:]
            self.plan.secrets = secrets
            self.plan.refused.append(str(error))
            for each in (*getattr(owner, "teams", ()), *(owner.keys if owner else ())):
                self.plan.refused.append(f"{each.part.path}: it belongs to what could not be made")

    def provider_key(self, given: declared.ProviderKey) -> None:
        row = ProviderKey.objects.filter(name=given.name).first()
        name = f"provider key {given.name}"
        if row is None:
            row = ProviderKey(name=given.name, **given.values)
            provider_keys.save(row, given.secret)
            self.plan.note(ADDED, name)
        else:
            changes = _changes(row, given.values)
            secret = given.secret if given.secret and not _has_secret(row, given.secret) else ""
            if changes or secret:
                # A new address wants the secret again, also one that is the same.
                provider_keys.save(row, given.secret)
                self.plan.note(CHANGED, name, [*changes, *(["its secret"] if secret else [])])
        self.kept[ProviderKey].add(row.pk)

    def alias(self, name: str, target: str) -> None:
        row = ModelAlias.objects.filter(name=name).first() or ModelAlias(name=name)
        if row.target != target:
            before, row.target = row.target, target
            model_aliases.save(row)
            self.plan.note(CHANGED if before else ADDED, f"alias {name}", [f"{before or 'new'} → {target}"])

    def customer(self, given: declared.Customer) -> None:
        with _at(given.part):
            row = Customer.objects.filter(name=given.name).first() or Customer(name=given.name)
            self.save(row, given, f"customer {given.name}")
        self.terms(row, given, given.name)
        for team in given.teams:
            with self.on_its_own(team):
                self.team(row, team)
        for key in given.keys:
            with self.on_its_own():
                self.key(row, None, key)

    def team(self, customer: Customer, given: declared.Team) -> None:
        address = f"{customer.name}/{given.name}"
        with _at(given.part):
            found = Team.objects.filter(customer=customer, name=given.name).first()
            row = found or Team(customer=customer, name=given.name)
            self.save(row, given, f"team {address}")
        if given.rules is not None:
            with _at(given.rules.part):
                self.rules(row, given.rules, address)
        self.terms(row, given, address)
        for key in given.keys:
            with self.on_its_own():
                self.key(customer, row, key)

    def rules(self, team: Team, given: declared.Rules, address: str) -> None:
        before, name = key_rules.of_team(team), f"rules for the keys of {address}"
        if given.values is None:
            if before is not None:
                key_rules.put(team, None)
                self.plan.note(REMOVED, name)
            return
        changes = _changes(before, given.values) if before else []
        if before is None or changes:
            key_rules.put(team, given.values)
            self.plan.note(CHANGED if before else ADDED, name, changes)

    def save(self, row: Customer | Team, given: declared.Owner, name: str) -> None:
        new = row.pk is None
        changes = _changes(row, given.values)
        if new or changes:
            customers.save(row)
            self.plan.note(ADDED if new else CHANGED, name, [] if new else changes)

    def key(self, customer: Customer, team: Team | None, given: declared.Key) -> None:
        rows = VirtualKey.objects.filter(customer=customer, team=team, name=given.name, revoked_at=None)
        with _at(given.part):
            routes = None if given.routes is None else [(_provider_key(name), w) for name, w in given.routes.items()]
            row = rows.first()
            if row is None:
                row = VirtualKey(customer=customer, team=team, name=given.name, **given.values)
                plain = issuing.issue(row, routes if routes is not None else issuing.all_routes())
                self.plan.note(ADDED, f"virtual key {virtual_keys.address(row)}")
                self.plan.secrets[virtual_keys.address(row)] = plain
            else:
                self.change_key(row, given, routes)
        self.kept[VirtualKey].add(row.pk)
        self.terms(row, given, virtual_keys.address(row))

    def change_key(self, row: VirtualKey, given: declared.Key, routes: list[tuple[ProviderKey, int]] | None) -> None:
        changes = _changes(row, given.values)
        rows = row.routes.select_related("provider_key").order_by("provider_key__name")
        before = {route.provider_key.name: route.weight for route in rows}
        if routes is not None and before != given.routes:
            changes.append(f"provider_keys {_words(before)} → {_words(given.routes)}")
        if changes:
            key_terms.change(row, given.values, routes)
            self.plan.note(CHANGED, f"virtual key {virtual_keys.address(row)}", changes)

    def terms(self, owner: Owner, given: declared.Owner, address: str) -> None:
        for budget in given.budgets:
            with _at(budget.part):
                self.budget(owner, budget, address)
        for limit in given.limits:
            with _at(limit.part):
                self.limit(owner, limit, address)

    def budget(self, owner: Owner, given: declared.Budget, address: str) -> None:
        provider_key = _provider_key(given.provider_key) if given.provider_key is not None else None
        scope = Scope(given.rolling, given.models, provider_key)
        which = {"unit": given.terms.unit, "period": given.terms.period, "rolling": given.rolling}
        before = next(iter(budget_terms.find(Budget, owner, scope, **which)), None)
        values: dict[str, Any] = {} if given.terms.period == Period.NONE else {"amount": given.terms.amount}
        if given.terms.enforcement is not None:
            values["enforcement"] = given.terms.enforcement
        if given.thresholds is not None:
            values["thresholds"] = given.thresholds
        changes = _changes(before, values) if before else []
        if before is None or changes:
            after = budget_terms.put(owner, given.terms, scope, given.thresholds)
            if before is None and given.first is not None:
                changes = _begin_with(after, given)
            self.plan.note(
                CHANGED if before else ADDED, f"budget {after.terms()}{after.particulars()} of {address}", changes
            )
            self.kept[Budget].add(after.pk)
        else:
            self.kept[Budget].add(before.pk)

    def limit(self, owner: Owner, given: declared.Limit, address: str) -> None:
        scope = Scope(models=given.models)
        before = next(iter(budget_terms.find(Limit, owner, scope, kind=given.kind)), None)
        values = {"rate": given.rate, "burst": given.burst, "count_cached": given.count_cached}
        changes = (
            _changes(before, {name: value for name, value in values.items() if value is not None}) if before else []
        )
        if before is None or changes:
            pace = LimitTerms(given.kind, given.rate, given.burst, given.count_cached)
            after = budget_terms.put_limit(owner, pace, scope)
            self.plan.note(CHANGED if before else ADDED, f"limit {given.kind} {given.rate} of {address}", changes)
            self.kept[Limit].add(after.pk)
        else:
            self.kept[Limit].add(before.pk)

    def prune_rest(self) -> None:
        keys = VirtualKey.objects.filter(revoked_at=None, passthrough=False).select_related("customer", "team")
        for key in keys.exclude(pk__in=self.kept[VirtualKey]).order_by("pk"):
            issuing.revoke(key, reason="not in the file that was applied")
            self.plan.note(REMOVED, f"virtual key {virtual_keys.address(key)}: revoked")
        for model in (Budget, Limit):
            rows = model.objects.filter(active=True, virtual_key__revoked_at=None).exclude(pk__in=self.kept[model])
            for row in rows.order_by("pk"):
                row.delete_softly()
                self.plan.note(REMOVED, f"{model._meta.verbose_name} {row}")
        for provider_key in ProviderKey.objects.filter(active=True).exclude(pk__in=self.kept[ProviderKey]):
            provider_key.active = False
            provider_keys.save(provider_key)
            self.plan.note(REMOVED, f"provider key {provider_key}: deactivated")


def _begin_with(budget: Budget, given: declared.Budget) -> list[str]:
    """Give a new budget what it has at first, and say so."""
    first, spent = given.first or Decimal(0), given.terms.amount - (given.first or Decimal(0))
    reason = f"import: {_words(spent)} of {_words(given.terms.amount)} was spent before"
    with refused():
        if budget.period != Period.NONE:
            budget.override(first, windows=1, reason=reason, author=AUTHOR)
        elif first:
            budget.top_up(first, reason=reason, author=AUTHOR)
    return [f"{_words(first)} at first, since {_words(spent)} is spent"] if spent else []


def _provider_key(name: str) -> ProviderKey:
    found = ProviderKey.objects.filter(name=name).first()
    if found is None:
        raise Unusable(f"there is no provider key “{name}”")
    return found


def _has_secret(row: ProviderKey, secret: str) -> bool:
    try:
        return bool(row.secret_ciphertext) and keyring.decrypt(row.secret_ciphertext) == secret
    except keyring.UnreadableSecret:
        return False


def _changes(row: Model, values: Mapping[str, Any]) -> list[str]:
    """Set the values that differ, and say from what to what."""
    said = []
    for name, value in values.items():
        before = getattr(row, name)
        if before != value:
            setattr(row, name, value)
            said.append(f"{name} {_words(before)} → {_words(value)}")
    return said


def _words(value: Any) -> str:
    match value:
        case Decimal():
            return f"{value.normalize():f}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case list() | tuple():
            return f"[{', '.join(map(_words, value))}]"
        case dict():
            return f"{{{', '.join(f'{name}: {_words(each)}' for name, each in value.items())}}}"
    return "none" if value is None else str(value)
