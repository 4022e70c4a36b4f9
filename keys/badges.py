"""Coloured labels for states in the admin."""

from __future__ import annotations

from django.utils.html import format_html
from django.utils.safestring import SafeString


def state_badge(state: str) -> SafeString:
    """The state as a label; keys/static/keys/admin.css has a colour for its last word."""
    return format_html('<span class="state {}">{}</span>', state.split()[-1], state)
