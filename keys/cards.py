"""Rows of another kind on a page, such as a team's budgets: each is a card whose fields take as many columns as there
is room for. In a table, a row of its fields would be wider than a screen."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin


class Cards(admin.StackedInline):  # type: ignore[type-arg]
    """Such rows."""

    classes = ("cards",)
    extra = 0

    class Media:
        css: ClassVar = {"all": ["keys/cards.css"]}
