"""When each credential was last used, and from which address: so that an administrator sees whether an old secret is
still in use, and where. A web process collects it in memory, and writes it about once a second."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import ClassVar

import msgspec
import psycopg
from django.db import models

from keys.connection import Reader

logger = logging.getLogger(__name__)

# A process writes a credential's use at most once in this time, unless the address has changed.
SECONDS = 60.0
# The most credentials that a process remembers having written.
REMEMBERED = 100_000

# Processes update the same rows: a fixed order prevents deadlocks.
WRITE = """
INSERT INTO usage_credentialuse AS u (credential, used_at, address)
SELECT f.* FROM jsonb_to_recordset(%s::jsonb) AS f (credential bigint, used_at timestamptz, address text)
ORDER BY f.credential
ON CONFLICT (credential) DO UPDATE SET used_at = excluded.used_at, address = excluded.address
WHERE u.used_at < excluded.used_at
"""


class CredentialUse(models.Model):
    """The last use of a credential: an admitted call. `used_at` may be up to a minute old."""

    credential = models.BigIntegerField(primary_key=True)
    used_at = models.DateTimeField()
    address = models.TextField()

    class Meta:
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return f"credential {self.credential} at {self.used_at:%Y-%m-%d %H:%M}"


class CredentialUses:
    """Collects uses; `flush` writes them. If the process is killed, those of its last second are lost."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.latest: dict[int, tuple[datetime, str]] = {}
        self.written: dict[int, tuple[float, str]] = {}

    def note(self, credential: int, address: str) -> None:
        """Note a call. Does no I/O."""
        before = self.written.get(credential)
        if before is None or before[1] != address or time.monotonic() - before[0] >= SECONDS:
            self.latest[credential] = datetime.now(UTC), address

    async def flush(self) -> None:
        """Write the uses. If the database is unavailable, they are kept for the next flush."""
        if not self.latest:
            return
        latest, self.latest = self.latest, {}
        rows = [{"credential": key, "used_at": at, "address": address} for key, (at, address) in latest.items()]
        try:
            await self.reader.fetch(WRITE, [msgspec.json.encode(rows).decode()])
        except psycopg.Error as error:
            logger.warning("uses of credentials can't be written now and are kept (%s)", type(error).__name__)
            self.latest = latest | self.latest
            return
        if len(self.written) > REMEMBERED:
            self.written.clear()
        now = time.monotonic()
        self.written |= {key: (now, address) for key, (_, address) in latest.items()}
