"""The authentication backend by which Django's permission checks, and the pages of all apps, ask the roles."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import BaseBackend
from django.db.models import Model, QuerySet

from administration.roles import ceilings, enforcement
from administration.roles.definitions import DEFINITIONS
from keys.models import VirtualKey


class RolesBackend(BaseBackend):
    """Answers `user.has_perm(permission, row)`. It doesn't sign people in."""

    def has_perm(self, user_obj: Any, perm: str, obj: Model | None = None) -> bool:
        """Whether the person may do this to the row, or to any row at all."""
        allowed = enforcement.may(user_obj, perm, obj)
        if not allowed:
            user_obj.refused = perm  # the refused page says which roles have it
        return allowed

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        """Whether the person may view anything of an app. Each page of it asks for itself."""
        return user_obj.is_active and any(grant.role in DEFINITIONS for grant in enforcement.grants_of(user_obj))

    def visible(self, user_obj: Any, queryset: QuerySet[Any], action: str) -> QuerySet[Any]:
        """The rows that the person sees, for `keys.visibility`."""
        return enforcement.visible(user_obj, queryset, action)

    def hold(self, user_obj: Any, row: Model) -> None:
        """Refuse a row that passes a ceiling of the person's, for `keys.ceilings`."""
        ceilings.hold(user_obj, row)

    def hold_move(self, user_obj: Any, virtual_key: VirtualKey) -> None:
        """Refuse a move out of a team whose rules bind the person, for `keys.ceilings`."""
        ceilings.hold_move(user_obj, virtual_key)
