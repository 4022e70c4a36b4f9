"""The seven roles: what each may do. docs/roles.md has the sentence of each."""

from __future__ import annotations

from dataclasses import dataclass

from administration.role_names import Role
from administration.roles import names
from administration.roles.names import on


def _each(*models: str, actions: tuple[str, ...] = ("view",)) -> set[str]:
    return {permission for model in models for permission in on(model, *actions)}


OWN_USAGE = _each(
    *("keys.virtualkey", "usage.rollup", "usage.ledgerentry", "usage.freecalls", "usage.refusal"),
    *("usage.budget", "usage.limit", "usage.window"),
)
REPORTS = (
    OWN_USAGE
    | _each(
        *("keys.customer", "keys.team", "usage.adjustment", "usage.hold", "usage.overrun", "usage.retained"),
        *("usage.topup", "usage.override", "usage.price", "usage.exchangerate", "usage.alert"),
        *("messages_api.batch", "messages_api.file"),
        *("billing.statement", "billing.issuer", "billing.particulars"),
    )
    | {names.EXPORT_REPORT, names.EXPORT_CALLS}
)
# Providers' figures beside ours are about the whole deployment.
RECONCILED = _each(
    *("reconciliation.comparison", "reconciliation.reportedkey", "reconciliation.adjustmentrun"),
    *("reconciliation.bill", "reconciliation.billformat"),
)
KEYS_OF_A_TEAM = (
    _each("keys.virtualkey", "keys.gatewaytoken", actions=("view", "add", "change"))
    | {names.ISSUE_KEY, names.ROTATE_KEY, names.REVOKE_KEY, names.PAUSE_KEY, names.VIEW_CREDENTIAL}
    | {names.ISSUE_TOKEN, names.REVOKE_TOKEN, names.GIVE_ROLE}
    | _each("keys.virtualkeyroute", "administration.grant", "usage.keyrules")
    | _each("administration.person", actions=("view", "add", "change"))
    | _each("usage.budget", "usage.limit", actions=("add", "change"))
    | _each("usage.topup", "usage.override", actions=("add",))
    # A form for keys offers them by name, but their pages stay closed.
    | _each("keys.customer", "keys.providerkey", actions=("choose",))
)
ALL_KEYS = (
    _each("keys.customer", "keys.team", "keys.providerkey", actions=("view", "add", "change"))
    | _each("keys.modelalias", actions=("view", "add", "change", "delete"))
    | _each("keys.cooldown", "keys.performance", "keys.modellist", "keys.providerkeycheck", "keys.auditevent")
    | _each("keys.gateway", "usage.process", "usage.worker", "usage.delivery")
    | _each("usage.alerttarget", "usage.keyrules", actions=("view", "add", "change"))
    | {names.PAUSE_TEAM, names.PAUSE_CUSTOMER, names.TEST_PROVIDER_KEY, names.CALL_PROVIDER_KEY, names.END_COOLDOWN}
    | {names.GIVE_BACK, names.RETRY_DELIVERY, names.EXPORT_AUDIT}
    | _each("reconciliation.adminkey", actions=("view", "add", "change"))
    | {names.TEST_ADMIN_KEY, "reconciliation.change_reportedkey"}
    | RECONCILED
)


@dataclass(frozen=True, slots=True)
class Definition:
    """What a role may do.

    Attributes:
        permissions: the names of its permissions.
        of_keys: permissions that it has only for rows of a virtual key: a team admin changes budgets of keys, and not
            that of the team.
    """

    permissions: frozenset[str]
    of_keys: frozenset[str] = frozenset()

    def allows(self, permission: str) -> bool:
        """Whether the role has this permission. Who views a row may also choose it in a form."""
        if permission in self.permissions:
            return True
        app, action, model = names.parts(permission)
        return action == "choose" and self.allows(f"{app}.view_{model}")


class OwnerDefinition(Definition):
    """Owners may do everything, also what later versions add."""

    def allows(self, permission: str) -> bool:
        """True."""
        return True


class AuditorDefinition(Definition):
    """Auditors view and export everything, also what later versions add, except the ends of secrets."""

    def allows(self, permission: str) -> bool:
        """Whether this only reads."""
        return permission != names.VIEW_CREDENTIAL and names.parts(permission).action in ("view", "choose", "export")


OF_THE_DEPLOYMENT = {"usage.view_price", "usage.view_exchangerate", "keys.view_customer"} | _each(
    "billing.issuer", "billing.particulars"
)
TEAM_ADMIN = REPORTS - OF_THE_DEPLOYMENT | KEYS_OF_A_TEAM
BUDGETS = _each("usage.budget", "usage.limit", actions=("add", "change")) | _each(
    "usage.topup", "usage.override", actions=("add",)
)
MONEY = (
    {names.CLOSE_MONTH, names.ADD_PRICE, names.CHANGE_PRICE, names.DELETE_PRICE, names.REPRICE}
    | _each("usage.exchangerate", actions=("add", "change", "delete"))
    | _each("billing.issuer", "billing.particulars", actions=("add", "change"))
)
RECONCILING = {names.ADJUST_ESTIMATES, "reconciliation.change_reportedkey", "reconciliation.add_bill"} | _each(
    "reconciliation.billformat", actions=("add", "change")
)
# A format of bills names the provider key that they are about.
RECONCILING |= _each("keys.providerkey", actions=("choose",))

DEFINITIONS: dict[str, Definition] = {
    Role.OWNER: OwnerDefinition(frozenset()),
    Role.KEY_ADMIN: Definition(frozenset(TEAM_ADMIN | REPORTS | ALL_KEYS)),
    Role.TEAM_ADMIN: Definition(frozenset(TEAM_ADMIN), of_keys=frozenset(BUDGETS)),
    Role.BILLING_ADMIN: Definition(frozenset(REPORTS | RECONCILED | MONEY | RECONCILING)),
    Role.FINANCE: Definition(frozenset(REPORTS | RECONCILED)),
    Role.AUDITOR: AuditorDefinition(frozenset()),
    Role.MEMBER: Definition(frozenset(OWN_USAGE)),
}


def with_right(permission: str) -> list[Role]:
    """The roles that have a permission, the most powerful one first."""
    return [Role(name) for name, definition in DEFINITIONS.items() if definition.allows(permission)]
