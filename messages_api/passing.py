"""Letting calls pass while the arbiter can't be asked, where the deployment has chosen so (ARBITER_AWAY=pass).

Such a call is written to the spool before it goes out, and admitted when the database is back (usage/arbiter/late.sql):
then it has its row like any other. One that costs nothing is counted, as ever. Only calls to models pass, with
credentials that this process knows, and that the arbiter let in when it was last asked; what has changed since is not
known.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec

from keys.directory import KnownKey
from messages_api.authentication import Presented
from messages_api.call import Call
from messages_api.database_away import DatabaseAway
from messages_api.open_calls import OpenCalls
from usage.arbitration import Admission
from usage.request_ids import new_id
from usage.writer import Writer

logger = logging.getLogger(__name__)

# What lives at a provider needs our tables.
ENDPOINTS = frozenset(("messages", "count_tokens"))
# Kept with the ledger row, beside what the client says about itself.
LABEL = {"admitted": "afterwards"}


class Passing:
    """Which calls of a process may pass.

    Args:
        lets: the deployment has chosen so.
    """

    def __init__(self, lets: bool, writer: Writer, open_calls: OpenCalls) -> None:
        self.lets = lets
        self.writer = writer
        self.open_calls = open_calls
        # Credentials that the arbiter let in when it was last asked; kept where they may matter.
        self.trusted: set[int] = set()

    def trust(self, key: KnownKey) -> None:
        """The arbiter has let a call with this key's credential in."""
        if self.lets:
            self.trusted.add(key.credential)

    def distrust(self, key: KnownKey) -> None:
        """The arbiter has not."""
        self.trusted.discard(key.credential)

    def may(self, endpoint: str, presented: Presented, key: KnownKey) -> bool:
        """Whether a call with this credential may be made without having been admitted."""
        return (
            self.lets
            and endpoint in ENDPOINTS
            and key.credential in self.trusted
            and not presented.provider_secret
            and (key.expires_at is None or key.expires_at > datetime.now(UTC))
        )

    def let(self, call: Call, asked: Admission) -> None:
        """Let a call pass: it is in the spool when this returns, and admitted when the database is back; unless it is
        free.

        The arbiter may have admitted it all the same, and then gets it back; so the call goes on under another id.

        Raises:
            DatabaseAway: it can't be kept.
        """
        if call.free:
            # It holds nothing and has no row: there is nothing to admit.
            self.open_calls.remember(call)
            return
        call.id = call.http_request.id = new_id()
        # Another object: the writer still gives back what the first one may hold.
        passed = msgspec.structs.replace(asked, id=call.id, client_labels=asked.client_labels | LABEL)
        try:
            self.writer.admit_afterwards(passed)
        except OSError as error:
            logger.error("a call can't be kept in the spool (%s)", type(error).__name__)
            raise DatabaseAway("The gateway's database is away, and the call can't be kept until it is back.") from None
        # The counts of open calls must include it.
        self.open_calls.remember(call)
