"""Letting calls pass while the arbiter can't be asked, where the deployment has chosen so (ARBITER_AWAY=pass).

Such a call is written to the spool before it goes out, and admitted when the database is back (usage/sql/late.sql):
then it has its row like any other. One that costs nothing is counted, as ever. Only calls to models pass, with
credentials that this process knows, and that the arbiter let in when it was last asked; what has changed since is not
known.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from keys.directory import KnownKey
from messages_api import errors
from messages_api.authentication import Presented
from usage.arbitration import Admission
from usage.request_ids import new_id

if TYPE_CHECKING:
    from messages_api.call import Call
    from messages_api.runtime import Runtime

logger = logging.getLogger(__name__)

# What lives at a provider needs our tables.
ENDPOINTS = frozenset(("messages", "count_tokens"))
# Kept with the ledger row, beside what the caller tells about itself.
LABEL = {"admitted": "afterwards"}


def may(runtime: Runtime, endpoint: str, presented: Presented, key: KnownKey) -> bool:
    """Whether a call with this credential may be made without having been admitted."""
    return (
        runtime.lets_pass
        and endpoint in ENDPOINTS
        and key.credential in runtime.trusted
        and not presented.provider_secret
        and (key.expires_at is None or key.expires_at > datetime.now(UTC))
    )


def let(runtime: Runtime, call: Call, asked: Admission) -> None:
    """Let a call pass: it is in the spool when this returns, and admitted when the database is back; unless it is free.

    What was asked for it may have been admitted all the same, and is given back; so it goes on under another id.

    Raises:
        GatewayError: 503, it can't be kept.
    """
    if call.free:
        # It holds nothing and has no row: there is nothing to admit.
        runtime.remember(call)
        return
    call.id = call.http_request.id = new_id()
    # Another object: the writer still gives back what the first one may hold.
    passed = msgspec.structs.replace(asked, id=call.id, client_labels=asked.client_labels | LABEL)
    try:
        runtime.writer.admit_afterwards(passed)
    except OSError as error:
        logger.error("a call can't be kept in the spool (%s)", type(error).__name__)
        raise errors.unavailable(
            "The gateway's database is away, and the call can't be kept until it is back.",
            reason="database_away",
            retry_after=2,
        ) from None
    # Whoever counts calls under way must see it.
    runtime.remember(call)
