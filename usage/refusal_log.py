"""The log of refused calls, as a web process writes it: collected in memory, written about once a second.

Within a minute, the first refusals with the same reason and key get a row each. Further ones are counted in one row,
which describes the last of them.
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

# Refusals per minute, reason and key that get a row each; and refusals that wait for the next write at most.
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
class RefusedCall:
    """A refused call. `message` is the one that the client received; it contains neither keys nor content. `facts` are
    the values from which a budget's or limit's refusal can be worded in any language."""

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
        """A row for the database: one refusal, or the last of `count` refusals in a minute."""
        texts = {
            "message": clean(self.message, 500),
            "credential_hint": clean(self.credential_hint, 40),
            "requested_model": clean(self.requested_model),
        }
        return asdict(self) | texts | {"minute": minute, "count": count}


class RefusalLog:
    """Collects refusals; `flush` writes them."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.minute = datetime.now(UTC)
        self.seen: Counter[tuple[str, int | None]] = Counter()
        self.single: list[RefusedCall] = []
        self.counted: dict[Cell, tuple[int, RefusedCall]] = {}

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
        """Record a refusal. Does no I/O."""
        now = datetime.now(UTC)
        minute = now.replace(second=0, microsecond=0)
        if minute != self.minute:
            self.minute = minute
            self.seen.clear()
        self.seen[reason, virtual_key] += 1
        # Cut now, so that no long text stays in memory; `row` cleans it.
        refused = RefusedCall(
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

    def count(self, cell: Cell, count: int, last: RefusedCall) -> None:
        """Add to the count of a cell; `last` is the latest refusal in it."""
        self.counted[cell] = (self.counted[cell][0] + count if cell in self.counted else count, last)

    async def flush(self) -> None:
        """Write the refusals. If the database is unavailable, they are kept for the next flush."""
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
            logger.warning("refusals can't be written now and are kept (%s)", type(error).__name__)
            self.single = (single + self.single)[:WAITING]
            newer, self.counted = self.counted, counted
            for cell, (count, last) in newer.items():
                self.count(cell, count, last)
        except psycopg.Error as error:
            lost = len(single) + sum(count for count, _ in counted.values())
            logger.error("%d refusals are lost: the database refused them (%s)", lost, type(error).__name__)

    async def write(self, statement: str, rows: list[dict[str, Any]]) -> None:
        """Insert rows with one statement."""
        await self.reader.fetch(statement, [msgspec.json.encode(rows).decode()])


def rows(counted: dict[Cell, tuple[int, RefusedCall]]) -> list[dict[str, Any]]:
    """The rows of the counts, in a fixed order: processes update the same rows, and could deadlock otherwise.

    Each row has its cell's virtual key, which is None once there are too many cells.
    """
    cells = sorted(counted.items(), key=lambda item: (*item[0][:2], item[0][2] or 0))
    return [last.row(minute, count) | {"virtual_key": key} for (minute, _, key), (count, last) in cells]
