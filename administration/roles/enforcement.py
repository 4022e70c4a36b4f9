"""Decides what a person may do, and which rows a person sees.

Superusers are owners. Permissions that were given to a person or group by hand, before there were roles, hold for all
rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from django.contrib.auth.backends import ModelBackend
from django.db.models import Model, Q, QuerySet

from administration.models import Grant
from administration.roles import names, reach
from administration.roles.definitions import DEFINITIONS

M = TypeVar("M", bound=Model)

# The permission of Django's that allowed an action before the action had a name of its own.
FORMERLY = {
    **dict.fromkeys(("rotate", "revoke", "pause", "test", "give_back", "retry"), "change"),
    "issue": "add",
    "export": "view",
}
FORMERLY_OF = {
    names.END_COOLDOWN: {"keys.change_providerkey"},
    names.VIEW_CREDENTIAL: {
        *("keys.view_virtualkey", "keys.change_virtualkey"),
        *("keys.view_gatewaytoken", "keys.change_gatewaytoken"),
    },
}


def may(user: Any, permission: str, row: Model | None = None) -> bool:
    """Whether a person may do something.

    Args:
        user: a user, also an anonymous one.
        permission: a name from `administration.roles.names`, or Django's name of a model's permission.
        row: the row that it is done to, also one that isn't saved yet. None: to any row at all.
    """
    if not user.is_active:
        return False
    if user.is_superuser or by_hand(user, permission):
        return True
    return any(allows(grant, permission, row) for grant in grants_of(user))


def visible(user: Any, queryset: QuerySet[M], action: str = "view") -> QuerySet[M]:
    """Those rows of a queryset for which a person may do this (`view`, `choose`, `change` and so on)."""
    permission = f"{queryset.model._meta.app_label}.{action}_{queryset.model._meta.model_name}"
    if not user.is_active:
        return queryset.none()
    if user.is_superuser or by_hand(user, permission):
        return queryset
    found = rows(permission, grants_of(user))
    return queryset if found is None else queryset.filter(found)


def rows(permission: str, grants: Iterable[Grant]) -> Q | None:
    """The rows that grants reach by a permission on their model; None: all rows."""
    found = Q(pk__in=[])
    paths = reach.of(names.subject(permission), names.parts(permission).action)
    for grant in grants:
        definition = DEFINITIONS[grant.role]
        if not definition.allows(permission):
            continue
        if grant.is_for_everything or permission in reach.CHOSEN_BY_ALL:
            return None
        if paths is not None:
            of_keys = (
                [Q(**{f"{path}__isnull": False}) for path in paths.key] if permission in definition.of_keys else []
            )
            found |= paths.rows(grant) & Q(*of_keys, _connector=Q.OR)
    return found


def allows(grant: Grant, permission: str, row: Model | None = None) -> bool:
    """Whether one grant lets its person do this to a row (None: to any row at all)."""
    definition = DEFINITIONS[grant.role]
    if not definition.allows(permission):
        return False
    if grant.is_for_everything or permission in reach.CHOSEN_BY_ALL:
        return True
    label = names.subject(permission) if row is None else row._meta.label_lower
    paths = reach.of(label, names.parts(permission).action)
    if paths is None or row is None:
        return paths is not None
    return paths.covers(grant, row) and (permission not in definition.of_keys or paths.is_of_key(row))


def grants_of(user: Any) -> list[Grant]:
    """A person's grants. They are read once for a user object, so once for a request."""
    kept: list[Grant] | None = getattr(user, "role_grants", None)
    if kept is None:
        kept = user.role_grants = list(Grant.objects.filter(user=user.pk).select_related("user")) if user.pk else []
    return kept


def forget_grants(user: Any) -> None:
    """Read a user object's grants again when they are needed: they have changed."""
    user.role_grants = None


def by_hand(user: Any, permission: str) -> bool:
    """Whether a permission follows from those that a person or a group has without a role."""
    given = ModelBackend().get_all_permissions(user)
    if not given:
        return False
    if permission in given or given & FORMERLY_OF.get(permission, set()):
        return True
    app, action, model = names.parts(permission)
    if action == "choose":
        return any(names.parts(each).action in ("add", "change") for each in given) or f"{app}.view_{model}" in given
    return (action == "view" and f"{app}.change_{model}" in given) or f"{app}.{FORMERLY.get(action)}_{model}" in given
