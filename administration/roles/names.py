"""The names of permissions: `app.action_model`, as Django writes them.

Besides Django's actions (view, add, change, delete), there are actions that change no single column of a row, such as
rotating a key. `choose` lets a person see a row's name in a form's choices, without a page of the row.
"""

from __future__ import annotations

from typing import NamedTuple

ISSUE_KEY = "keys.issue_virtualkey"
ROTATE_KEY = "keys.rotate_virtualkey"
REVOKE_KEY = "keys.revoke_virtualkey"
PAUSE_KEY = "keys.pause_virtualkey"
PAUSE_TEAM = "keys.pause_team"
PAUSE_CUSTOMER = "keys.pause_customer"
ISSUE_TOKEN = "keys.issue_gatewaytoken"  # noqa: S105  (the name of a permission)
REVOKE_TOKEN = "keys.revoke_gatewaytoken"  # noqa: S105
# The first and last characters of secrets, and searches by them.
VIEW_CREDENTIAL = "keys.view_credential"
TEST_PROVIDER_KEY = "keys.test_providerkey"
# A test that makes a call, which costs.
CALL_PROVIDER_KEY = "keys.call_providerkey"
END_COOLDOWN = "keys.end_cooldown"
EXPORT_AUDIT = "keys.export_auditevent"
EXPORT_CALLS = "usage.export_ledgerentry"
EXPORT_REPORT = "usage.export_rollup"
GIVE_BACK = "usage.give_back_retained"
RETRY_DELIVERY = "usage.retry_delivery"
ADD_PRICE = "usage.add_price"
CHANGE_PRICE = "usage.change_price"
DELETE_PRICE = "usage.delete_price"
# Asked about calls: adjustments that price them again.
REPRICE = "usage.reprice_ledgerentry"
# Adjustments of estimates to what a provider reports.
ADJUST_ESTIMATES = "reconciliation.add_adjustmentrun"
TEST_ADMIN_KEY = "reconciliation.test_adminkey"
# Asked about the customer whose month is closed.
CLOSE_MONTH = "usage.close_month"
# Asked about the grant: who gets which role, and for what.
GIVE_ROLE = "administration.give_role"

# The model that a permission is about, where its name doesn't say.
SUBJECTS = {CLOSE_MONTH: "keys.customer", GIVE_ROLE: "administration.grant"}


class Parts(NamedTuple):
    """A permission's name in parts."""

    app: str
    action: str
    model: str

    @property
    def label(self) -> str:
        """The model's label, such as `keys.virtualkey`."""
        return f"{self.app}.{self.model}"


def parts(permission: str) -> Parts:
    """The parts of a name: `keys.view_virtualkey` is about the model `keys.virtualkey`."""
    app, _, codename = permission.partition(".")
    action, _, model = codename.rpartition("_")
    return Parts(app, action, model)


def subject(permission: str) -> str:
    """The label of the model that a permission is about."""
    return SUBJECTS.get(permission) or parts(permission).label


def on(label: str, *actions: str) -> set[str]:
    """The permissions for these actions on a model: `on("keys.team", "view")`."""
    app, _, model = label.partition(".")
    return {f"{app}.{action}_{model}" for action in actions}
