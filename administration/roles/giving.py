"""Gives and takes roles. A person can't give or take more than they have, and the last owner stays.

The database keeps the last owner (administration/sql/last_owner.sql), also against SQL and other commands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction

from administration.models import Grant
from administration.role_names import Role
from administration.roles import names
from administration.roles.definitions import DEFINITIONS
from administration.roles.enforcement import forget_grants, grants_of, may
from keys.errors import Unusable
from keys.models import Customer, Team

LAST_OWNER = "administration_last_owner"
NOT_YOURS = "You can give and take only roles that you have, for what you have them for."


def is_owner(user: Any) -> bool:
    """Whether a person is an owner: a superuser, or someone with this role."""
    return user.is_active and (user.is_superuser or any(grant.role == Role.OWNER for grant in grants_of(user)))


def may_give(giver: Any, grant: Grant) -> bool:
    """Whether a person may give or take this role for this scope: all that it lets do, the giver may do as well."""
    if is_owner(giver):
        return True
    if not may(giver, names.GIVE_ROLE, grant):
        return False
    wider = [own for own in grants_of(giver) if contains(own, grant)]
    if any(own.role == grant.role for own in wider):
        return True
    needed = DEFINITIONS[grant.role].permissions
    return bool(needed) and all(any(DEFINITIONS[own.role].allows(permission) for own in wider) for permission in needed)


def roles_to_give(giver: Any) -> list[Role]:
    """The roles that a person may give for a scope of their own, such as their team."""
    scopes = [Grant(customer=own.customer, team=own.team) for own in grants_of(giver)]

    def for_some_scope(role: Role) -> bool:
        return any(may_give(giver, Grant(role=role, customer=each.customer, team=each.team)) for each in scopes)

    return [role for role in Role if is_owner(giver) or for_some_scope(role)]


def contains(wider: Grant, narrower: Grant) -> bool:
    """Whether the scope of one grant includes that of another."""
    if wider.is_for_everything:
        return True
    if wider.is_own or narrower.is_own or narrower.is_for_everything:
        return False
    if wider.team_id is not None:
        return wider.team_id == narrower.team_id
    customer = narrower.customer_id if narrower.team is None else narrower.team.customer_id
    return wider.customer_id == customer


def may_manage(manager: Any, person: Any) -> bool:
    """Whether one person may deactivate another, or send an invitation, which sets a new password: only if all that the
    other may do, the manager could give."""
    if is_owner(manager):
        return True
    if person.is_superuser or permissions_by_hand(person):
        return False
    grants = grants_of(person)
    return bool(grants) and all(may_give(manager, grant) for grant in grants)


@transaction.atomic
def give(
    giver: Any,
    user: Any,
    role: str,
    *,
    customer: Customer | None = None,
    team: Team | None = None,
    by_sso: bool = False,
) -> Grant:
    """Give a person a role, once.

    Args:
        giver: the person who gives it; None for a command or for single sign-on, which may give all.
        by_sso: the role follows the person's groups. One that was given by hand stays one.

    Raises:
        PermissionDenied: the giver lacks this role or scope.
        ValidationError: the role can't be given for this scope.
    """
    grant = Grant(user=user, role=role, customer=customer, team=team, by_sso=by_sso)
    if giver is not None and not may_give(giver, grant):
        raise PermissionDenied(NOT_YOURS)
    same = Grant.objects.filter(user=user, role=role, customer=customer, team=team).first()
    if same is not None:
        if same.by_sso and not by_sso:
            same.by_sso = False
            same.save(update_fields=["by_sso"])
        return same
    grant.full_clean()
    grant.save()
    if not user.is_staff:  # Django lets only staff into its admin
        user.is_staff = True
        user.save(update_fields=["is_staff"])
    forget_grants(user)
    return grant


def take(taker: Any, grant: Grant) -> None:
    """Take a role away.

    Raises:
        PermissionDenied: the taker lacks this role or scope.
        Unusable: it is the last owner's.
    """
    if taker is not None and not may_give(taker, grant):
        raise PermissionDenied(NOT_YOURS)
    with last_owner_kept():
        grant.delete()
    forget_grants(grant.user)


def permissions_by_hand(user: Any) -> set[str]:
    """The permissions that a person, or a group of this person's, has without a role."""
    given: set[str] = ModelBackend().get_all_permissions(user)
    return given


def leave_only_roles(taker: Any, user: Any) -> None:
    """Take away a superuser's rights, and permissions that were given by hand.

    Raises:
        PermissionDenied: the taker is no owner.
        Unusable: this is the last owner.
    """
    if taker is not None and not is_owner(taker):
        raise PermissionDenied(NOT_YOURS)
    with last_owner_kept():
        type(user)._default_manager.filter(pk=user.pk).update(is_superuser=False)
        user.user_permissions.clear()
        user.groups.clear()
    user.is_superuser = False


def set_active(manager: Any, user: Any, active: bool) -> None:
    """Let a person sign in, or no longer: open sessions end with the next request.

    Raises:
        PermissionDenied: the manager lacks something that this person may do.
        Unusable: this is the last owner.
    """
    if manager is not None and not may_manage(manager, user):
        raise PermissionDenied(NOT_YOURS)
    with last_owner_kept():
        type(user)._default_manager.filter(pk=user.pk).update(is_active=active)
    user.is_active = active


@contextmanager
def last_owner_kept() -> Iterator[None]:
    """A block that may take an owner away.

    Raises:
        Unusable: the database has refused it, because no owner would be left.
    """
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if getattr(getattr(error.__cause__, "diag", None), "constraint_name", None) != LAST_OWNER:
            raise
        raise Unusable("there must be an owner: make another person an owner first") from None
