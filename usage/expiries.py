"""Tells of virtual keys that expire soon: an alert for each number of days before the expiry, once."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection

from keys.models import VirtualKey

# Of several numbers of days that have been reached, the smallest counts. A key that was issued for less time than that
# needs no notice: its expiry has just been chosen. A later expiry gets notices of its own.
RAISE = """
INSERT INTO usage_alert (virtual_key_id, start, expires_at, threshold, spent, amount, at)
SELECT k.id, k.expires_at, k.expires_at, min(n.days), 0, 0, usage_now()
FROM keys_virtualkey k, unnest(%s::integer[]) AS n (days)
WHERE k.revoked_at IS NULL AND k.expires_at > usage_now() AND k.expires_at <= usage_now() + make_interval(days => %s)
    AND k.expires_at <= usage_now() + make_interval(days => n.days)
    AND k.created_at < k.expires_at - make_interval(days => n.days)
GROUP BY k.id, k.expires_at
ON CONFLICT DO NOTHING
"""


def raise_alerts(days: Sequence[int]) -> int:
    """Raise an alert for each key that reaches one of these numbers of days before its expiry. Returns how many."""
    if not days:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(RAISE, [list(days), max(days)])
        raised: int = cursor.rowcount
    return raised


def owner_address(virtual_key: VirtualKey) -> str:
    """The e-mail address of a key's owner: the owner itself, or that of the person of this user name. Empty: none."""
    owner = virtual_key.owner.strip()
    if "@" in owner:
        try:
            validate_email(owner)
        except ValidationError:
            return ""
        return owner
    if not owner:
        return ""
    people = get_user_model()._default_manager.filter(username__iexact=owner, is_active=True)
    addresses = list(people.exclude(email="").values_list("email", flat=True)[:2])
    return addresses[0] if len(addresses) == 1 else ""
