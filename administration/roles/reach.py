"""Which rows belong to a customer, a team or a virtual key: the paths from each model to its owners.

A model that isn't here describes the whole deployment: only roles for everything reach its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model, Q, QuerySet

from administration.models import Grant
from keys.models import VirtualKey

Paths = tuple[str, ...]
# Of a customer with more virtual keys, most rows fit: a list finds a page of them faster than all of them.
MANY = 20_000
# Ids of a member's own keys that are read; of more keys, queries join them.
MANY_OWN = 1_000


@dataclass(frozen=True, slots=True)
class Through:
    """Rows that belong to their owners through another model's rows, without a foreign key.

    Attributes:
        field: the field of this model.
        model: the label of the other model, which has paths of its own.
        theirs: the field of the other model that has the same value.
    """

    field: str
    model: str
    theirs: str


@dataclass(frozen=True, slots=True)
class Reach:
    """Look-ups from a model to its owners. If there are several, one that fits is enough."""

    customer: Paths = ()
    team: Paths = ()
    key: Paths = ()
    through: Through | None = None

    def rows(self, grant: Grant) -> Q:
        """The rows of what a grant is for."""
        parts = self.parts(grant)
        return Q(*parts, _connector=Q.OR) if parts else Q(pk__in=[])

    def parts(self, grant: Grant) -> list[Q]:
        """A condition for each way in which rows belong to what a grant is for."""
        found = [
            Q(**{f"{path}__in": value.ids()}) if isinstance(value, OwnKeys) else Q(**{path: value})
            for path, value in self._ends(grant)
        ]
        if self.through:
            other = apps.get_model(self.through.model)
            theirs = other._default_manager.filter(REACH[self.through.model].rows(grant))
            found.append(Q(**{f"{self.through.field}__in": theirs.order_by().values(self.through.theirs)}))
        return found

    def covers(self, grant: Grant, row: Model) -> bool:
        """Whether a row belongs to what a grant is for. The row may be one that isn't saved yet."""
        for path, value in self._ends(grant):
            given = value_of(row, path)
            if given is None:
                continue
            if value.has(given) if isinstance(value, OwnKeys) else given == value:
                return True
        if self.through:
            other = apps.get_model(self.through.model)
            same = Q(**{self.through.theirs: value_of(row, self.through.field)})
            return bool(other._default_manager.filter(same, REACH[self.through.model].rows(grant)).exists())
        return False

    def is_of_key(self, row: Model) -> bool:
        """Whether a row belongs to a virtual key, and not to a team or customer as a whole."""
        return any(value_of(row, path) is not None for path in self.key)

    @property
    def is_wide(self) -> bool:
        """Whether rows of one scope belong to it in several ways, and have an id of one column."""
        return max(len(self.customer), len(self.team)) > 1 and self is not OF_WINDOW

    def _ends(self, grant: Grant) -> list[tuple[str, int | OwnKeys]]:
        """The paths that a grant reaches rows by, and what must be at their end."""
        if grant.is_own:
            return [(path, OwnKeys(grant)) for path in self.key]
        if grant.team_id is not None:
            return [(path, grant.team_id) for path in self.team]
        assert grant.customer_id is not None
        return [(path, grant.customer_id) for path in self.customer]


def is_large(grant: Grant) -> bool:
    """Whether a grant is for a customer with more than `MANY` virtual keys. Asked once for a grant."""
    if grant.customer_id is None:
        return False
    known: bool | None = vars(grant).get("_is_large")
    if known is None:
        keys = VirtualKey.objects.filter(customer=grant.customer_id).order_by().values("pk")
        known = vars(grant)["_is_large"] = keys[MANY : MANY + 1].exists()
    return known


def keys_of(user: Any) -> QuerySet[VirtualKey]:
    """The virtual keys whose owner is a person, by user name or e-mail address, in any case."""
    own = Q(owner__iexact=user.get_username())
    if user.email:
        own |= Q(owner__iexact=user.email)
    return VirtualKey.objects.filter(own, passthrough=False)


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """The virtual keys whose owner is a person, by user name or e-mail address."""

    grant: Grant

    def ids(self) -> Any:
        """Their ids, by which an index finds their rows; a query of more than `MANY_OWN`. Read once for a grant."""
        known: Any = vars(self.grant).get("_own_keys")
        if known is None:
            rows = keys_of(self.grant.user).order_by().values_list("pk", flat=True)
            known = list(rows[: MANY_OWN + 1])
            known = vars(self.grant)["_own_keys"] = known if len(known) <= MANY_OWN else rows
        return known

    def has(self, key: Any) -> bool:
        """Whether this is the id of one of them."""
        return bool(keys_of(self.grant.user).filter(pk=key).exists())


def value_of(row: Model, path: str) -> Any:
    """The value at the end of a path, read from the row itself; None where the path is interrupted."""
    *steps, last = path.split("__")
    found: Any = row
    for step in steps:
        try:
            found = getattr(found, step, None)
        except ObjectDoesNotExist:
            return None
        if found is None:
            return None
    return found.pk if last == "pk" else getattr(found, found._meta.get_field(last).attname)


OF_KEY = Reach(customer=("virtual_key__customer",), team=("virtual_key__team",), key=("virtual_key",))
# A call belongs to the team that its key had at that time.
OF_CALL = Reach(customer=("customer",), team=("team",), key=("virtual_key",))
STORED = Reach(customer=("virtual_key__customer",), team=("team",), key=("virtual_key",))
OWNED = Reach(
    customer=("customer", "team__customer", "virtual_key__customer"),
    team=("team", "virtual_key__team"),
    key=("virtual_key",),
)


def _of_budget(reach: Reach) -> Reach:
    def longer(paths: Paths) -> Paths:
        return tuple(f"budget__{path}" for path in paths)

    return Reach(longer(reach.customer), longer(reach.team), longer(reach.key))


@dataclass(frozen=True, slots=True)
class OfDelivery(Reach):
    """A delivery belongs to its target's owner; one without a target goes to the owner of the alert's virtual key."""

    def parts(self, grant: Grant) -> list[Q]:
        """A condition for each way in which rows belong to what a grant is for."""
        return [Reach(self.customer).rows(grant), Q(target=None) & TO_OWNER.rows(grant)]

    def covers(self, grant: Grant, row: Model) -> bool:
        """Whether a row belongs to what a grant is for."""
        without_target = value_of(row, "target") is None
        return TO_OWNER.covers(grant, row) if without_target else Reach(self.customer).covers(grant, row)


OF_BUDGET = _of_budget(OWNED)
OF_WINDOW = _of_budget(OWNED)
TO_OWNER = Reach(customer=("alert__virtual_key__customer",), team=("alert__virtual_key__team",))
PERSON = Reach(through=Through("pk", "administration.grant", "user"))
OF_LEDGER = Through("pk", "usage.ledgerentry", "pk")

REACH: dict[str, Reach] = {
    "keys.customer": Reach(customer=("pk",)),
    "keys.team": Reach(customer=("customer",), team=("pk",)),
    "keys.virtualkey": Reach(customer=("customer",), team=("team",), key=("pk",)),
    "keys.virtualkeyroute": OF_KEY,
    "keys.credential": OF_KEY,
    "keys.gatewaytoken": OF_KEY,
    "usage.ledgerentry": OF_CALL,
    "usage.hold": OF_CALL,
    "usage.rollup": OF_CALL,
    "usage.freecalls": OF_KEY,
    "usage.refusal": OF_KEY,
    "usage.overrun": OF_KEY,
    "usage.adjustment": Reach(through=Through("entry_id", "usage.ledgerentry", "pk")),
    "usage.retained": Reach(through=OF_LEDGER),
    "usage.budget": OWNED,
    "usage.limit": OWNED,
    "usage.keyrules": Reach(customer=("team__customer",), team=("team",)),
    "usage.topup": OF_BUDGET,
    "usage.override": OF_BUDGET,
    "usage.window": OF_WINDOW,
    "usage.alert": Reach(
        customer=(*OF_BUDGET.customer, *OF_KEY.customer),
        team=(*OF_BUDGET.team, *OF_KEY.team),
        key=(*OF_BUDGET.key, *OF_KEY.key),
    ),
    "usage.alerttarget": Reach(customer=("customer",)),
    "usage.delivery": OfDelivery(customer=("target__customer",)),
    # A statement of a whole customer is not a team's.
    "billing.statement": Reach(customer=("customer",), team=("team",)),
    "billing.particulars": Reach(customer=("customer",)),
    "messages_api.batch": STORED,
    "messages_api.file": STORED,
    "messages_api.binding": STORED,
    "administration.grant": Reach(customer=("customer", "team__customer"), team=("team",)),
    "auth.user": PERSON,
    "administration.person": PERSON,
}
# A team's admin may name the team's customer in a form.
CHOSEN: dict[str, Reach] = {
    "keys.customer": Reach(customer=("pk",), through=Through("pk", "keys.team", "customer")),
}
# What belongs to the deployment, and may be chosen under any scope.
CHOSEN_BY_ALL = frozenset({"keys.choose_providerkey"})


def of(label: str, action: str) -> Reach | None:
    """The paths of a model, by its label; None if its rows describe the whole deployment."""
    return CHOSEN.get(label, REACH.get(label)) if action == "choose" else REACH.get(label)
