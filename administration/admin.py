"""Django's admin imports this module after those of the other apps. Each module that it imports adds its pages."""

from __future__ import annotations

from administration import overview_page, people_admin, search_page
from administration.calls import pages as call_pages
from administration.owners import pages as owner_pages
from administration.providers import pages as provider_pages
from administration.rest import token_admin

__all__ = [
    "call_pages",
    "overview_page",
    "owner_pages",
    "people_admin",
    "provider_pages",
    "search_page",
    "token_admin",
]
