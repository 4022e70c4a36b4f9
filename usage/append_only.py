"""For admin pages whose rows can be added and viewed, but never changed or deleted."""

from __future__ import annotations

from django.db.models import Model
from django.http import HttpRequest


class AppendOnly:
    """A mixin for a page or an inline: existing rows can't be changed or deleted."""

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
