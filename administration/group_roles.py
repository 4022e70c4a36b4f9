"""Which roles the groups of single sign-on give, as OIDC_ROLES writes it.

The setting is JSON: each group has a role for everything (`"finance"`), a role for one customer (`{"role": "key_admin",
"customer": "Acme"}`) or one team (`{"role": "team_admin", "team": "Acme/Research"}`), or a list of such roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from administration.role_names import NEVER_SCOPED, SCOPED_ONLY, Role

SHAPE = 'expected JSON like {"platform": "owner", "research": {"role": "team_admin", "team": "Acme/Research"}}'


@dataclass(frozen=True, slots=True)
class GroupRole:
    """A role that a group gives.

    Attributes:
        role: its name.
        owner: the customer or team that it is for, as `customer:NAME` or `team:CUSTOMER/TEAM`; empty for everything.
    """

    role: str
    owner: str = ""


def read(value: object) -> dict[str, list[GroupRole]]:
    """The roles of each group.

    Raises:
        ValueError: the value has another shape, or names no role.
    """
    if not isinstance(value, Mapping):
        raise ValueError(SHAPE)
    return {str(group): list(_roles(given)) for group, given in value.items()}


def _roles(given: object) -> Iterator[GroupRole]:
    for each in given if isinstance(given, list) else [given]:
        row = {"role": each} if isinstance(each, str) else each
        if not isinstance(row, Mapping) or not all(isinstance(text, str) for text in row.values()):
            raise ValueError(SHAPE)
        role, scope = row.get("role"), {name: text for name, text in row.items() if name != "role"}
        if role not in Role.values:
            raise ValueError(f"expected the roles {', '.join(Role.values)}")
        if len(scope) > 1 or not set(scope) <= {"customer", "team"}:
            raise ValueError("expected a role with a customer or a team, or with neither")
        if scope and role in NEVER_SCOPED:
            raise ValueError(f"the role {role} can't be given for one customer or team")
        if not scope and role in SCOPED_ONLY:
            raise ValueError(f"the role {role} needs a customer or a team")
        yield GroupRole(str(role), next((f"{name}:{text}" for name, text in scope.items()), ""))
