"""Decides what a person may do, and which rows a person sees.

Superusers are owners. Permissions that were given to a person or group by hand, before there were roles, hold for all
rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from django.apps import apps
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
    "administration.view_person": {"auth.view_user", "auth.change_user"},
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
    parts: list[Q] = []
    reaching: list[Grant] = []
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
            parts += [part & Q(*of_keys, _connector=Q.OR) for part in paths.parts(grant)]
            reaching.append(grant)
    if not parts:
        return Q(pk__in=[])
    if len(parts) > 1 and paths is not None and paths.is_wide and not any(map(reach.is_large, reaching)):
        return _found_apart(names.subject(permission), parts)
    return Q(*parts, _connector=Q.OR)


def _found_apart(label: str, parts: Iterable[Q]) -> Q:
    """The rows that fit one of several conditions on different tables, each found by its own indexes: of all together,
    PostgreSQL would compare every row with each."""
    model = apps.get_model(label)
    first, *others = (model._base_manager.filter(part).order_by().values("pk") for part in parts)
    return Q(pk__in=first.union(*others))


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
    app, action, model = names.parts(permission)
    # Forms and filters offered all rows to everyone who had the page.
    if action == "choose" or permission in given or given & FORMERLY_OF.get(permission, set()):
        return True
    return (action == "view" and f"{app}.change_{model}" in given) or f"{app}.{FORMERLY.get(action)}_{model}" in given
