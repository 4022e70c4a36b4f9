"""Filters for templates that show calls: `{% load calls %}{{ row.pk|call_id }}`."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from django import template

from keys import viewer
from usage import request_ids
from usage.models import LedgerEntry

register = template.Library()


@register.filter
def call_id(call: UUID) -> str:
    """A call's id as clients see it."""
    return request_ids.request_id(call)


@register.filter
def tokens_read(row: LedgerEntry) -> int:
    """All tokens that the model read, from caches too."""
    cached = row.cache_read_input_tokens + row.cache_creation_5m_input_tokens + row.cache_creation_1h_input_tokens
    return row.input_tokens + cached


@register.filter
def seconds(milliseconds: int) -> str:
    """A duration for people: `340 ms`, `2.4 s`, `95 s`."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    places = 1 if milliseconds < 60_000 else 0
    return f"{viewer.number(round(Decimal(milliseconds) / 1000, places), places)} s"


@register.filter
def unlocalised(value: float) -> str:
    """A number for a drawing, which has a point in every language."""
    return f"{value:.2f}"
