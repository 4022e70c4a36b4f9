"""The log of refusals, as a web process writes it: gathered in memory, written about once a second.

The first few of one reason for one key in a minute are kept singly; a storm is counted.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import psycopg

from keys.connection import Reader
from usage.arbitration import clean

logger = logging.getLogger(__name__)

# Of one reason and key in a minute, and in all between two writings.
KEPT_SINGLY = 20
WAITING = 2000

WRITE = """
INSERT INTO usage_refusal (
    id, refused_at, http_status, error_type, reason, message, endpoint, credential_hint, virtual_key_id,
    requested_model)
SELECT r.* FROM jsonb_to_recordset(%s::jsonb) AS r (
    id uuid, refused_at timestamptz, http_status smallint, error_type text, reason text, message text, endpoint text,
    credential_hint text, virtual_key bigint, requested_model text)
ON CONFLICT DO NOTHING
"""
COUNT = """
INSERT INTO usage_refusalcount (minute, reason, virtual_key_id, count)
SELECT c.* FROM jsonb_to_recordset(%s::jsonb) AS c (minute timestamptz, reason text, virtual_key bigint, count bigint)
ON CONFLICT (minute, reason, virtual_key_id) DO UPDATE SET count = usage_refusalcount.count + EXCLUDED.count
"""


@dataclass(frozen=True, slots=True)
class Refused:
    """A refused call. The message is the one that the caller got; no key, no content."""

    id: UUID
    refused_at: datetime
    http_status: int
    error_type: str
    reason: str
    message: str
    endpoint: str
    credential_hint: str
    virtual_key: int | None
    requested_model: str


class RefusalLog:
    """Gathers refusals; `flush` writes them."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.minute = datetime.now(UTC)
        self.seen: Counter[tuple[str, int | None]] = Counter()
        self.single: list[Refused] = []
        self.counted: Counter[tuple[datetime, str, int | None]] = Counter()

    def note(
        self,
        call: UUID,
        *,
        http_status: int,
        error_type: str,
        reason: str,
        message: str,
        endpoint: str,
        credential_hint: str = "",
        virtual_key: int | None = None,
        requested_model: str = "",
    ) -> None:
        """Take a refusal in; no I/O."""
        now = datetime.now(UTC)
        minute = now.replace(second=0, microsecond=0)
        if minute != self.minute:
            self.minute = minute
            self.seen.clear()
        self.seen[reason, virtual_key] += 1
        if self.seen[reason, virtual_key] > KEPT_SINGLY or len(self.single) >= WAITING:
            self.counted[minute, reason, virtual_key] += 1
            return
        self.single.append(
            Refused(
                call,
                now,
                http_status,
                error_type,
                reason,
                clean(message, 500),
                endpoint,
                clean(credential_hint, 40),
                virtual_key,
                clean(requested_model),
            )
        )

    async def flush(self) -> None:
        """Write what was gathered; what can't be written now is tried again with the next."""
        if not self.single and not self.counted:
            return
        single, counted = self.single, self.counted
        self.single, self.counted = [], Counter()
        counts = [
            {"minute": minute, "reason": reason, "virtual_key": key, "count": count}
            for (minute, reason, key), count in counted.items()
        ]
        try:
            if single:
                await self.reader.fetch(WRITE, [msgspec.json.encode(single).decode()])
                single = []
            if counts:
                await self.reader.fetch(COUNT, [msgspec.json.encode(counts).decode()])
        except psycopg.OperationalError as error:
            logger.warning("refusals wait to be written (%s)", type(error).__name__)
            self.single = (single + self.single)[:WAITING]
            self.counted.update(counted)
        except psycopg.Error as error:
            logger.error("%d refusals are lost (%s)", len(single) + sum(counted.values()), type(error).__name__)
