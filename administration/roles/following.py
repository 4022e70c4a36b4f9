"""Has a person's roles follow the groups that the provider of single sign-on names.

At each sign-in, roles of the groups are given, and roles that earlier groups gave are taken away. Roles that people
gave by hand stay, and so does the last owner.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction

from administration.group_roles import GroupRole
from administration.models import Grant
from administration.roles import giving
from administration.roles.enforcement import forget_grants
from keys.errors import Unusable
from keys.models import Customer, Team
from usage import owners

logger = logging.getLogger(__name__)

Key = tuple[str, int | None, int | None]


@transaction.atomic
def follow(user: Any, groups: Iterable[str], roles: Mapping[str, list[GroupRole]]) -> None:
    """Give and take roles by single sign-on, so that they are those of the groups.

    Args:
        groups: the person's groups, as the provider names them.
        roles: the roles of each group (`OIDC_ROLES`).
    """
    get_user_model()._default_manager.select_for_update().get(pk=user.pk)  # two sign-ins at once
    wanted: dict[Key, tuple[str, Customer | None, Team | None]] = {}
    for given in {each for group in groups for each in roles.get(group, ())}:
        try:
            customer, team = scope_of(given)
        except Unusable as error:
            logger.warning("OIDC_ROLES: the role %s is not given, because %s", given.role, error)
            continue
        key = (given.role, customer.pk if customer else None, team.pk if team else None)
        wanted[key] = (given.role, customer, team)
    for role, customer, team in wanted.values():
        giving.give(None, user, role, customer=customer, team=team, by_sso=True)
    for grant in Grant.objects.filter(user=user.pk, by_sso=True).select_related("user"):
        if (grant.role, grant.customer_id, grant.team_id) not in wanted:
            try:
                giving.take(None, grant)
            except Unusable as error:
                logger.warning("user %s keeps the role %s by single sign-on: %s", user.pk, grant.role, error)
    forget_grants(user)


def scope_of(given: GroupRole) -> tuple[Customer | None, Team | None]:
    """The customer or team that a group's role is for.

    Raises:
        Unusable: there is no customer or team of this name.
    """
    owner = owners.find(given.owner) if given.owner else None
    return (owner if isinstance(owner, Customer) else None), (owner if isinstance(owner, Team) else None)
