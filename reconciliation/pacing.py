"""How often a provider is asked, and by whom: one worker at a time reads with an admin key, a bounded number of
requests a minute. Both hold across processes, because the database decides.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from reconciliation.sources import AdminKey

# A worker that has died keeps its claim for as many seconds at most.
CLAIM = 15 * 60.0

CLAIM_IT = """
UPDATE reconciliation_adminkey SET claimed_until = usage_now() + make_interval(secs => %s)
WHERE id = %s AND active AND (claimed_until IS NULL OR claimed_until < usage_now()) RETURNING id
"""
# The next request's time: the earlier one's, and its share of a minute. A worker that asks keeps its claim.
NEXT = """
UPDATE reconciliation_adminkey
SET next_at = greatest(next_at, usage_now()) + make_interval(secs => 60.0 / requests_a_minute),
    claimed_until = CASE WHEN claimed_until > usage_now()
        THEN usage_now() + make_interval(secs => %(claim)s) END
WHERE id = %(admin_key)s
    AND (next_at IS NULL OR next_at < usage_now() + make_interval(secs => %(patience)s))
RETURNING extract(epoch FROM next_at - make_interval(secs => 60.0 / requests_a_minute) - usage_now())
"""
PUT_OFF = """
UPDATE reconciliation_adminkey SET next_at = greatest(next_at, usage_now() + make_interval(secs => %s)) WHERE id = %s
"""
EXTEND = "UPDATE reconciliation_adminkey SET claimed_until = usage_now() + make_interval(secs => %s) WHERE id = %s"


@contextmanager
def claimed(admin_key: AdminKey) -> Iterator[bool]:
    """Whether this worker may read with the key now. The claim ends with the block."""
    with connection.cursor() as cursor:
        cursor.execute(CLAIM_IT, [CLAIM, admin_key.pk])
        may = cursor.fetchone() is not None
    try:
        yield may
    finally:
        if may:
            AdminKey.objects.filter(pk=admin_key.pk).update(claimed_until=None)


def extend(admin_key: AdminKey) -> None:
    """Keep the claim while the work goes on."""
    with connection.cursor() as cursor:
        cursor.execute(EXTEND, [CLAIM, admin_key.pk])


def wait_for_turn(admin_key: AdminKey, patience: float) -> bool:
    """Wait until the next request may be sent; False, at once: that takes longer than `patience` seconds."""
    with connection.cursor() as cursor:
        cursor.execute(NEXT, {"admin_key": admin_key.pk, "patience": patience, "claim": CLAIM})
        row = cursor.fetchone()
    if row is None:
        return False
    if row[0] > 0:
        time.sleep(float(row[0]))
    return True


def put_off(admin_key: AdminKey, seconds: float) -> None:
    """Send no request for this many seconds: the provider has asked for it."""
    with connection.cursor() as cursor:
        cursor.execute(PUT_OFF, [seconds, admin_key.pk])
