"""The names of the seven roles."""

from __future__ import annotations

from django.db.models import TextChoices


class Role(TextChoices):
    """The roles, from the one that may do everything to the one that sees only its own keys' usage."""

    OWNER = "owner", "Owner"
    KEY_ADMIN = "key_admin", "Key admin"
    TEAM_ADMIN = "team_admin", "Team admin"
    BILLING_ADMIN = "billing_admin", "Billing admin"
    FINANCE = "finance", "Finance"
    AUDITOR = "auditor", "Auditor"
    MEMBER = "member", "Member"


# Roles that can't be given for one customer or team, and those that can only be given so.
NEVER_SCOPED = (Role.OWNER, Role.MEMBER)
SCOPED_ONLY = (Role.TEAM_ADMIN,)
