"""Which rows a person sees on pages. An authentication backend decides, as it decides on permissions.

Django's backends answer `user.has_perm(permission, row)`. One of the deployment's backends also has a method `visible`.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

from django.contrib.auth import get_backends
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)


@runtime_checkable
class Decides(Protocol):
    """A backend that knows which rows a person sees."""

    def visible(self, user_obj: Any, queryset: QuerySet[Any], action: str) -> QuerySet[Any]:
        """Those rows of the queryset for which the person may do this."""


def visible(user: Any, queryset: QuerySet[M], action: str = "view") -> QuerySet[M]:
    """Those rows of a queryset that a person may view, or for which the person may do something else.

    Args:
        action: `view`; `choose` for the choices of a form; or another action of a permission's name.

    Raises:
        ImproperlyConfigured: no backend decides.
    """
    for backend in get_backends():
        if isinstance(backend, Decides):
            return backend.visible(user, queryset, action)
    raise ImproperlyConfigured("AUTHENTICATION_BACKENDS has no backend that decides which rows a person sees")
