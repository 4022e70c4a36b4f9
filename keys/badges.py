"""How a state looks in the admin."""

from __future__ import annotations

from django.utils.html import format_html
from django.utils.safestring import SafeString


def state_badge(state: str) -> SafeString:
    """A state in its colour."""
    return format_html('<span class="state {}">{}</span>', state.split()[-1], state)
