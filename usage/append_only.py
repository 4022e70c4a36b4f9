"""Rows that an admin page adds and shows, and never changes."""

from __future__ import annotations

from django.db.models import Model
from django.http import HttpRequest


class AppendOnly:
    """For a page or an inline: what is there stays as it is."""

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
