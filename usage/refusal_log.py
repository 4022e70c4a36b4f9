"""The log of refusals, as a web process writes it: gathered in memory, written about once a second.

The first few of one reason for one key in a minute are kept singly; a storm is counted, in a row that is about its
last call.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from keys.connection import Reader
from usage.arbitration import clean

logger = logging.getLogger(__name__)

# Of one reason and key in a minute, and in all between two writings.
KEPT_SINGLY = 20
WAITING = 2000

INSERT = """
INSERT INTO usage_refusal (
    id, refused_at, http_status, error_type, reason, message, endpoint, credential_hint, virtual_key_id,
    requested_model, facts, minute, count)
SELECT r.* FROM jsonb_to_recordset(%s::jsonb) AS r (
    id uuid, refused_at timestamptz, http_status smallint, error_type text, reason text, message text, endpoint text,
    credential_hint text, virtual_key bigint, requested_model text, facts jsonb, minute timestamptz, count bigint)
"""
WRITE = f"{INSERT} ON CONFLICT DO NOTHING"
COUNT = f"""{INSERT}
ON CONFLICT (minute, reason, virtual_key_id) WHERE minute IS NOT NULL DO UPDATE
SET id = EXCLUDED.id, refused_at = EXCLUDED.refused_at, http_status = EXCLUDED.http_status,
    error_type = EXCLUDED.error_type, message = EXCLUDED.message, endpoint = EXCLUDED.endpoint,
    credential_hint = EXCLUDED.credential_hint, requested_model = EXCLUDED.requested_model, facts = EXCLUDED.facts,
    count = usage_refusal.count + EXCLUDED.count
"""

# A minute, a reason and a virtual key.
Cell = tuple[datetime, str, int | None]


@dataclass(frozen=True, slots=True)
class Refused:
    """A refused call. The message is the one that the caller got; no key, no content. `facts`: what a budget's or a
    limit's refusal is said from."""

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
    facts: dict[str, Any] | None = None

    def row(self, minute: datetime | None = None, count: int = 1) -> dict[str, Any]:
        """It as the database takes it: a call of its own, or the last of those counted in a minute."""
        texts = {
            "message": clean(self.message, 500),
            "credential_hint": clean(self.credential_hint, 40),
            "requested_model": clean(self.requested_model),
        }
        return asdict(self) | texts | {"minute": minute, "count": count}


class RefusalLog:
    """Gathers refusals; `flush` writes them."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.minute = datetime.now(UTC)
        self.seen: Counter[tuple[str, int | None]] = Counter()
        self.single: list[Refused] = []
        self.counted: dict[Cell, tuple[int, Refused]] = {}

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
        facts: dict[str, Any] | None = None,
    ) -> None:
        """Take a refusal in; no I/O."""
        now = datetime.now(UTC)
        minute = now.replace(second=0, microsecond=0)
        if minute != self.minute:
            self.minute = minute
            self.seen.clear()
        self.seen[reason, virtual_key] += 1
        # Cut here, so that nothing long is held; cleaned when it is written.
        refused = Refused(
            call,
            now,
            http_status,
            error_type,
            reason,
            message[:500],
            endpoint,
            credential_hint[:40],
            virtual_key,
            requested_model[:200],
            facts,
        )
        if self.seen[reason, virtual_key] <= KEPT_SINGLY and len(self.single) < WAITING:
            self.single.append(refused)
            return
        cell = (minute, reason, virtual_key)
        if cell not in self.counted and len(self.counted) >= WAITING:
            cell = (minute, reason, None)
        self.count(cell, 1, refused)

    def count(self, cell: Cell, count: int, last: Refused) -> None:
        """Add to what is counted in a cell; `last` is the latest of these."""
        self.counted[cell] = (self.counted[cell][0] + count if cell in self.counted else count, last)

    async def flush(self) -> None:
        """Write what was gathered; what can't be written now is tried again with the next."""
        if not self.single and not self.counted:
            return
        single, counted = self.single, self.counted
        self.single, self.counted = [], {}
        try:
            if single:
                await self.write(WRITE, [refused.row() for refused in single])
                single = []
            if counted:
                await self.write(COUNT, rows(counted))
        except psycopg.OperationalError as error:
            logger.warning("refusals wait to be written (%s)", type(error).__name__)
            self.single = (single + self.single)[:WAITING]
            newer, self.counted = self.counted, counted
            for cell, (count, last) in newer.items():
                self.count(cell, count, last)
        except psycopg.Error as error:
            lost = len(single) + sum(count for count, _ in counted.values())
            logger.error("%d refusals are lost (%s)", lost, type(error).__name__)

    async def write(self, statement: str, rows: list[dict[str, Any]]) -> None:
        """Insert rows by one statement."""
        await self.reader.fetch(statement, [msgspec.json.encode(rows).decode()])


def rows(counted: dict[Cell, tuple[int, Refused]]) -> list[dict[str, Any]]:
    """What was counted, in one order for all processes: they lock the same rows. The row's key is the cell's."""
    cells = sorted(counted.items(), key=lambda item: (*item[0][:2], item[0][2] or 0))
    return [last.row(minute, count) | {"virtual_key": key} for (minute, _, key), (count, last) in cells]
