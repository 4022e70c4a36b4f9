"""Learns from answers which account at its provider each provider key belongs to, and stores it outside of requests."""

from __future__ import annotations

import logging
import time

from keys.connection import Reader
from keys.directory import KnownProviderKey

logger = logging.getLogger(__name__)

# Every write makes all processes reload the catalogue. If a provider's answers alternate between accounts, the provider
# key is updated at most once in this time, across all processes.
SECONDS = 60

WRITE = """
UPDATE keys_providerkey SET organization_id = %(organization)s, workspace_id = %(workspace)s,
    account_learned_at = clock_timestamp()
WHERE id = %(id)s AND (organization_id, workspace_id) IS DISTINCT FROM (%(organization)s, %(workspace)s)
    AND (account_learned_at IS NULL OR account_learned_at < clock_timestamp() - make_interval(secs => %(seconds)s))
"""


class Accounts:
    """Collects the accounts that answers name; `flush` writes those that this process didn't know."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.heard: dict[int, tuple[str, str]] = {}
        self.tried: dict[int, float] = {}

    def note(self, provider_key: KnownProviderKey, account: tuple[str, str]) -> None:
        """Remember the organisation and workspace that an answer names. No I/O. An answer without them is ignored.

        Args:
            account: cleaned for the database (usage.arbitration.clean).
        """
        if provider_key.id is not None and account[0] and account != provider_key.account:
            self.heard[provider_key.id] = account

    async def flush(self) -> None:
        """Write the accounts that are new.

        Raises:
            psycopg.Error: the database is unavailable; the next answer names the account again.
        """
        if not self.heard:
            return
        heard, self.heard = self.heard, {}
        now = time.monotonic()
        for provider_key, (organization, workspace) in heard.items():
            if now - self.tried.get(provider_key, -SECONDS) < SECONDS:
                continue
            values = {"id": provider_key, "organization": organization, "workspace": workspace, "seconds": SECONDS}
            await self.reader.fetch(WRITE, values)
            self.tried[provider_key] = now
