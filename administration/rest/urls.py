"""The URLs of the REST API, below /api/v1/."""

from __future__ import annotations

from typing import Any, NoReturn

from django.http import Http404
from django.urls import path
from rest_framework.routers import SimpleRouter

from administration.rest.resource import Resource
from administration.rest.resources import (
    admin_keys,
    alerts,
    bills,
    budgets,
    calls,
    customers,
    prices,
    provider_keys,
    reconciliation,
    saved_reports,
    statements,
    virtual_keys,
)
from administration.rest.resources.me import Me
from administration.rest.resources.usage import Usage

RESOURCES: dict[str, type[Resource]] = {
    "customers": customers.Customers,
    "teams": customers.Teams,
    "virtual-keys": virtual_keys.VirtualKeys,
    "budgets": budgets.Budgets,
    "top-ups": budgets.TopUps,
    "overrides": budgets.Overrides,
    "limits": budgets.Limits,
    "provider-keys": provider_keys.ProviderKeys,
    "aliases": provider_keys.Aliases,
    "prices": prices.Prices,
    "exchange-rates": prices.ExchangeRates,
    "reconciliation": reconciliation.Comparisons,
    "adjusted-estimates": reconciliation.AdjustedEstimates,
    "admin-keys": admin_keys.AdminKeys,
    "reported-keys": admin_keys.ReportedKeys,
    "bill-formats": bills.BillFormats,
    "bills": bills.Bills,
    "alerts": alerts.Alerts,
    "alert-targets": alerts.AlertTargets,
    "calls": calls.Calls,
    "refusals": calls.Refusals,
    "audit": calls.Events,
    "statements": statements.Statements,
    "saved-reports": saved_reports.SavedReports,
}

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
for name, resource in RESOURCES.items():
    router.register(name, resource, basename=name)


class Unknown(Resource):
    """A URL that leads to no resource: a 404 in the API's own shape, for those who have a token."""

    def missing(self, request: Any, rest: str = "") -> NoReturn:
        """Answer with a 404."""
        raise Http404


documented = [
    path("me", Me.as_view({"get": "show"}, basename="me")),
    path("usage", Usage.as_view({"get": "show"}, basename="usage")),
    *router.urls,
]
anything = Unknown.as_view(dict.fromkeys(("get", "post", "patch", "delete"), "missing"))
urlpatterns = [*documented, path("", anything), path("<path:rest>", anything)]
