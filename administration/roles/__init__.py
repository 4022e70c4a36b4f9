"""Roles: what each person may do and see. `may` and `visible` are the one place that decides.

Pages ask through Django's own hooks: `user.has_perm(permission, row)` and `keys.visibility.visible(user, queryset)`
reach `RolesBackend`. Modules of the administration call `may` and `visible` directly.
"""

from __future__ import annotations

from administration.roles.enforcement import may, visible

__all__ = ["may", "visible"]
