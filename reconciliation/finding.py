"""Which reports an admin key can read, and the module that reads them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from django.utils import timezone

from reconciliation.http import LONGEST_WAIT, PutOff, Reader, Trouble, reading
from reconciliation.reads import Report
from reconciliation.reports import analytics, anthropic_headers, older, openai
from reconciliation.reports.rows import ApiKey, Found
from reconciliation.sources import AdminKey, Kind, ReportsOf


class Reports(Protocol):
    """A module of reports."""

    def read(self, reader: Reader, secret: str, report: Report, since: datetime, until: datetime) -> Found:
        """The rows of a range."""

    def probe(self, reader: Reader, secret: str, hour: datetime) -> None:
        """Ask for one hour."""


MODULES: dict[str, Reports] = {Kind.ANALYTICS: analytics, Kind.OLDER: older, Kind.OPENAI: openai}
BASE_URLS: dict[str, str] = {ReportsOf.ANTHROPIC: anthropic_headers.BASE_URL, ReportsOf.OPENAI: openai.BASE_URL}
LISTS: dict[str, Callable[[Reader, str], list[ApiKey]]] = {
    ReportsOf.ANTHROPIC: anthropic_headers.api_keys,
    ReportsOf.OPENAI: openai.api_keys,
}
# Answers after which the older reports are tried: 400 for organisations under HIPAA, 403 for keys without the scope
# `read:analytics`, 404 for organisations without the beta.
WITHOUT_ANALYTICS = (400, 403, 404)
# Answers after which keys are chosen by hand: the admin key may not list them, or nothing does, as at another gateway.
WITHOUT_LIST = (403, 404)
NO_LIST = "the keys can't be listed: choose reported keys by hand"
# A bucket of the older reports has a request count of None, and their costs are days.
DAILY_COSTS = (Kind.OLDER, Kind.OPENAI)


def keys_of(admin_key: AdminKey, reader: Reader, secret: str) -> list[ApiKey] | None:
    """The keys that the provider lists; None: this admin key can list none.

    Raises:
        Trouble: the list can't be read now.
    """
    try:
        return LISTS[admin_key.provider](reader, secret)
    except PutOff:
        raise
    except Trouble as trouble:
        if trouble.status not in WITHOUT_LIST:
            raise
        return None


def find(admin_key: AdminKey, patience: float = LONGEST_WAIT) -> tuple[Kind, str]:
    """The best reports that the key can read, and why it isn't the best of all (empty: it is).

    Args:
        patience: the most seconds that a request waits for its turn.

    Raises:
        Trouble: it can read none.
    """
    hour = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    with reading(admin_key, BASE_URLS[admin_key.provider], patience) as (reader, secret):
        if admin_key.provider == ReportsOf.OPENAI:
            openai.probe(reader, secret, hour)
            return Kind.OPENAI, ""
        try:
            analytics.probe(reader, secret, hour)
        except PutOff:
            raise
        except Trouble as trouble:
            if trouble.status not in WITHOUT_ANALYTICS:
                raise
            try:
                older.probe(reader, secret, hour)
            except Trouble:
                raise trouble from None
            return Kind.OLDER, f"the Analytics API can't be read: {trouble}"[:300]
        return Kind.ANALYTICS, ""
