"""Related rows on an admin page, such as a team's budgets, shown as cards.

A card wraps its fields to the width of the page. As a table row, they would be wider than a screen.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin

from keys.scoped_admin import ScopedInline


class Cards(ScopedInline, admin.StackedInline):  # type: ignore[type-arg]
    classes = ("cards",)
    extra = 0

    class Media:
        css: ClassVar = {"all": ["keys/cards.css"]}
