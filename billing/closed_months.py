"""Which months are closed, for those that price calls again or make demo data (usage/closed.py)."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Max

from billing.models import Closing


def until() -> dict[int, datetime]:
    """For each customer with a closed month, when the last one ended."""
    return dict(Closing.objects.order_by().values_list("customer").annotate(until=Max("ends_at")))
