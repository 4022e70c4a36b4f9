"""Django's admin imports this module after those of the other apps. Each module that it imports adds its pages."""

from __future__ import annotations

from administration import search_page

__all__ = ["search_page"]
