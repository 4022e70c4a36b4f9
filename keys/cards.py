"""Related rows on an admin page, such as a team's budgets, shown as cards.

A card wraps its fields to the width of the page. As a table row, they would be wider than a screen.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.helpers import InlineAdminFormSet

from keys.scoped_admin import ScopedInline


class Cards(ScopedInline, admin.StackedInline):  # type: ignore[type-arg]
    classes = ("cards",)
    extra = 0
    # The button that adds a card.
    title_to_add = ""

    class Media:
        css: ClassVar = {"all": ["keys/cards.css"]}


class CardSet(InlineAdminFormSet):
    """The cards of one kind on a page. On the button that adds one, Django would write "Add another Budget"."""

    def __init__(self, made: InlineAdminFormSet) -> None:
        vars(self).update(vars(made))

    def inline_formset_data(self) -> str:
        """What the script that adds cards reads."""
        said: dict[str, Any] = json.loads(super().inline_formset_data())
        said["options"]["addText"] = self.opts.title_to_add
        return json.dumps(said)
