"""Overruns: calls that cost more than their hold. usage/sql/overruns.sql records them; `raise_alerts` reports them."""

from __future__ import annotations

from typing import ClassVar

from django.db import connection, models
from django.db.models import Q

from keys.models import VirtualKey

# One alert per virtual key and day (UTC): it sums the overruns known by then. Later ones raise no alert.
RAISE = """
WITH fresh AS (
    UPDATE usage_overrun SET told = true
    WHERE call IN (SELECT call FROM usage_overrun WHERE NOT told FOR UPDATE SKIP LOCKED)
    RETURNING virtual_key_id, date_trunc('day', at, 'UTC') AS day, cost, held
)
INSERT INTO usage_alert (virtual_key_id, start, threshold, spent, amount, at)
SELECT virtual_key_id, day, 100, sum(cost), sum(held), usage_now() FROM fresh GROUP BY virtual_key_id, day
ON CONFLICT DO NOTHING
"""


class Overrun(models.Model):
    """A call that cost its owner more than its hold. For a batch: the lines that exceeded what was still held."""

    call = models.UUIDField(primary_key=True)
    at = models.DateTimeField()
    virtual_key = models.ForeignKey(VirtualKey, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    cost = models.DecimalField(max_digits=30, decimal_places=12)
    held = models.DecimalField(max_digits=30, decimal_places=12)
    told = models.BooleanField(default=False)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["at"], name="usage_overrun_untold", condition=Q(told=False))]

    def __str__(self) -> str:
        return str(self.call)


def raise_alerts() -> int:
    """Raise an alert for each virtual key and day with new overruns; return the number of alerts raised."""
    with connection.cursor() as cursor:
        cursor.execute(RAISE)
        raised: int = cursor.rowcount
    return raised
