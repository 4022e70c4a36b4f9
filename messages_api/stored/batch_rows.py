"""SQL statements that write and find the rows of message batches, for web processes and tasks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from messages_api.json_text.lenient import mapping
from messages_api.json_text.outline import decode

# How many lines are settled at a time.
PORTION = 200
# Bytes of a provider's description of a batch that are kept. It usually has some hundred bytes, and lists contain many.
MOST_DESCRIBED = 64 << 10

BEGIN = """
INSERT INTO messages_api_batch (id, process, virtual_key_id, team_id, provider_key_id, organization_id, workspace_id,
    provider_batch_id, state, requests, settled_requests, ceiling, custom_ids, hour_writes, described)
SELECT h.id, %(process)s, h.virtual_key_id, h.team_id, h.provider_key, '', '', '', 'creating', %(requests)s, 0,
    h.ceiling, %(custom_ids)s, %(hour_writes)s, ''
FROM usage_hold h WHERE h.id = %(id)s
RETURNING id
"""
# The provider created the batch: its call gets a ledger row, and the hold stays.
MADE = """
WITH opened AS (
    SELECT usage_open(%(settlement)s::jsonb || jsonb_build_object('client_labels', h.client_labels
        || jsonb_build_object('batch', %(provider_batch_id)s::text))) AS done
    FROM usage_hold h WHERE h.id = %(id)s
)
UPDATE messages_api_batch b SET state = 'running', process = NULL, provider_batch_id = %(provider_batch_id)s,
    described = coalesce(%(described)s, described), asked_at = clock_timestamp(), organization_id = %(organization_id)s,
    workspace_id = %(workspace_id)s
FROM opened WHERE b.id = %(id)s AND b.state = 'creating'
RETURNING b.id
"""
DOUBT = "UPDATE messages_api_batch SET process = NULL WHERE id = %s AND state = 'creating' RETURNING id"
NEVER = "DELETE FROM messages_api_batch WHERE id = %s AND state = 'creating' RETURNING id"
DESCRIBE = """
UPDATE messages_api_batch SET described = coalesce(%(described)s, described), asked_at = clock_timestamp(),
    ended_at = coalesce(ended_at, %(ended_at)s)
WHERE id = %(id)s RETURNING id
"""
FORGET = "UPDATE messages_api_batch SET deleted_at = clock_timestamp() WHERE id = %s RETURNING id"
COLUMNS = """
b.id, b.provider_batch_id, 'anthropic', b.provider_key_id, b.created_at, b.ended_at, b.requests, b.ceiling,
b.custom_ids, b.hour_writes, b.state <> 'running', b.organization_id, b.workspace_id,
(SELECT h.cost_factor FROM usage_hold h WHERE h.id = b.id), b.virtual_key_id, b.team_id,
(SELECT v.customer_id FROM keys_virtualkey v WHERE v.id = b.virtual_key_id)
"""
FIND = f"""
SELECT {COLUMNS} FROM messages_api_batch b
WHERE b.virtual_key_id = %s AND b.provider_batch_id = %s AND b.deleted_at IS NULL
"""  # noqa: S608 - constants
OWN = """
SELECT provider_batch_id, described FROM messages_api_batch
WHERE virtual_key_id = %(key)s AND provider_batch_id <> '' AND deleted_at IS NULL
"""
LIST = OWN + "ORDER BY id DESC LIMIT %(limit)s"
AFTER = OWN + "AND id < %(cursor)s ORDER BY id DESC LIMIT %(limit)s"
BEFORE = OWN + "AND id > %(cursor)s ORDER BY id LIMIT %(limit)s"


def description(batch: UUID, body: bytes) -> dict[str, Any]:
    """A provider's description of a batch, to be stored."""
    return {
        "id": batch,
        "described": described(body),
        "ended_at": moment(mapping(decode(body)).get("ended_at")),
    }


def described(body: bytes) -> str | None:
    """The stored form of a provider's description of a batch; None: it is too long, and the earlier one stays."""
    return body.decode("utf-8", "replace").replace("\x00", "") if len(body) <= MOST_DESCRIBED else None


def moment(value: object) -> datetime | None:
    """A provider's date and time; None for anything else."""
    try:
        return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
