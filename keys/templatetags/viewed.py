"""Filters for templates: `{% load viewed %}{{ key.expires_at|moment }}`."""

from __future__ import annotations

from datetime import datetime

from django import template

from keys import viewer

register = template.Library()


@register.filter
def moment(value: datetime | None) -> str:
    """A time in the viewer's zone, which it names; empty without one."""
    return viewer.moment(value) if value is not None else ""
