"""Tells of requests on our provider keys that we never sent: a shared or stolen key. One alert for each key and day."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from django.db.models import Sum
from django.utils import timezone

from reconciliation.comparisons import Comparison
from reconciliation.freshness import DAY, HOUR
from reconciliation.sources import AdminKey
from usage import moments
from usage.alerts import Alert
from usage.models import Hold

# Calls that have ended are settled by then, unless they still have a hold.
SETTLED_AFTER = HOUR
# A batch's requests are counted when they are done, and its lines when their results are read, maybe days later.
BATCH = "batch"


def tell(admin_key: AdminKey, days: Iterable[date]) -> int:
    """Raise alerts about unsent requests of these days. Returns the number of new ones."""
    alerts = [alert for day in sorted(set(days)) for alert in of_day(admin_key, day)]
    before = Alert.objects.filter(needed__isnull=False, budget=None).count() if alerts else 0
    Alert.objects.bulk_create(alerts, ignore_conflicts=True)
    return Alert.objects.filter(needed__isnull=False, budget=None).count() - before if alerts else 0


def of_day(admin_key: AdminKey, day: date) -> list[Alert]:
    """An alert for each provider key with unsent requests on this day."""
    start, now = datetime(day.year, day.month, day.day, tzinfo=UTC), timezone.now()
    rows = Comparison.objects.filter(
        admin_key=admin_key,
        provider_key__isnull=False,
        unsent_requests__gt=0,
        start__gte=start,
        start__lt=min(start + DAY, now - SETTLED_AFTER - HOUR),
    ).exclude(mode__startswith=BATCH)
    sums = (
        rows.order_by("provider_key")
        .values("provider_key")
        .annotate(unsent=Sum("unsent_requests"), theirs=Sum("their_requests"), sent=Sum("our_requests"))
    )
    under_way = set(
        Hold.objects.filter(admitted_at__lt=start + DAY, provider_key__isnull=False)
        .exclude(endpoint__startswith="batch")
        .values_list("provider_key", flat=True)
    )
    return [
        Alert(
            provider_key_id=each["provider_key"],
            # The hours' beginnings are those of other alerts about a provider key.
            start=start + DAY - timedelta(microseconds=1),
            threshold=0,
            spent=each["theirs"],
            amount=each["sent"],
            needed=each["unsent"],
            at=moments.now(),
        )
        for each in sums
        # A call in progress may be counted there already.
        if each["provider_key"] not in under_way
    ]
