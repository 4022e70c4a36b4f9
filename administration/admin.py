"""Django's admin imports this module after those of the other apps. Each module that it imports adds its pages."""

from __future__ import annotations

from administration import overview_page, search_page

__all__ = ["overview_page", "search_page"]
