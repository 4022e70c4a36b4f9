"""Lets calls pass while the arbiter is unavailable, if the deployment has chosen this (ARBITER_AWAY=pass).

Such a call is written to the spool before it goes out, and admitted when the database is back (usage/arbiter/late.sql):
then it has its row like any other. A free call is counted as usual. Only calls to models pass, and only with
credentials that the arbiter admitted when this process last asked. Changes since then are unknown.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec

from keys.directory import KnownKey
from messages_api.callers.authentication import Presented
from messages_api.process.open_calls import OpenCalls
from messages_api.relay.call import Call
from messages_api.server.database_away import DatabaseAway
from usage.arbitration import Admission
from usage.request_ids import new_id
from usage.writer import Writer

logger = logging.getLogger(__name__)

# Files and batches need the gateway's tables, so they don't pass.
ENDPOINTS = frozenset(("messages", "count_tokens"))
# A label of the ledger row, beside the client's own labels.
LABEL = {"admitted": "afterwards"}


class Passing:
    """Decides which calls of a process may pass.

    Args:
        lets: the deployment lets calls pass.
    """

    def __init__(self, lets: bool, writer: Writer, open_calls: OpenCalls) -> None:
        self.lets = lets
        self.writer = writer
        self.open_calls = open_calls
        # Credentials that the arbiter admitted when it was last asked; only collected if calls may pass.
        self.trusted: set[int] = set()

    def trust(self, key: KnownKey) -> None:
        """Record that the arbiter has admitted a call with this key's credential."""
        if self.lets:
            self.trusted.add(key.credential)

    def distrust(self, key: KnownKey) -> None:
        """Record that the arbiter has refused a call with this key's credential."""
        self.trusted.discard(key.credential)

    def may(self, endpoint: str, presented: Presented, key: KnownKey) -> bool:
        """Whether a call with this credential may be made without an admission."""
        return (
            self.lets
            and endpoint in ENDPOINTS
            and key.credential in self.trusted
            and not presented.provider_secret
            and (key.expires_at is None or key.expires_at > datetime.now(UTC))
        )

    def let(self, call: Call, asked: Admission) -> None:
        """Let a call pass. Unless it is free, it is in the spool when this returns, and is admitted when the database
        is back.

        The arbiter may have admitted the call without an answer. That admission is given back, so the call gets a new
        id.

        Raises:
            DatabaseAway: the call can't be stored.
        """
        if call.free:
            # A free call holds nothing and has no row, so there is nothing to admit.
            self.open_calls.remember(call)
            return
        call.id = call.http_request.id = new_id()
        # A new object: the writer still gives back the hold of the first one.
        passed = msgspec.structs.replace(asked, id=call.id, client_labels=asked.client_labels | LABEL)
        try:
            self.writer.admit_afterwards(passed)
        except OSError as error:
            logger.error("a call can't be stored in the spool (%s)", type(error).__name__)
            message = "The gateway's database is unavailable, and the call can't be stored until it is back."
            raise DatabaseAway(message) from None
        # The counts of open calls must include it.
        self.open_calls.remember(call)
