"""Django's admin imports this module after those of the other apps. Each module that it imports adds its pages."""

from __future__ import annotations

from django.contrib import admin

from administration import overview_page, people_admin, search_page
from administration.calls import pages as call_pages
from administration.issuing import many, one
from administration.owners import pages as owner_pages
from administration.prices import pages as price_pages
from administration.prices import runs as price_runs
from administration.providers import pages as provider_pages
from administration.reconciliation import bill_pages
from administration.reconciliation import pages as reconciliation_pages
from administration.rest import token_admin
from administration.saved_reports import pages as saved_report_pages
from administration.statements import pages as statement_pages

__all__ = [
    "bill_pages",
    "call_pages",
    "many",
    "one",
    "overview_page",
    "owner_pages",
    "people_admin",
    "price_pages",
    "price_runs",
    "provider_pages",
    "reconciliation_pages",
    "saved_report_pages",
    "search_page",
    "statement_pages",
    "token_admin",
]

# allauth's pages of its tables show keys of sessions, and would let a person link or unlink another one.
for model in [model for model in admin.site._registry if model.__module__.startswith("allauth.")]:
    admin.site.unregister(model)
