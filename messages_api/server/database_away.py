"""The error for a caller while the database is unavailable."""

from __future__ import annotations

from typing import Any

import psycopg

from keys.connection import TooManyWait
from messages_api.server import errors
from messages_api.server.errors import GatewayError

NOT_ADMITTED = "The gateway's database is unavailable: no call can be admitted until it is back."


class DatabaseAway(GatewayError):
    """The database is unavailable: a 503, after which a retry makes sense."""

    def __init__(self, message: str = NOT_ADMITTED) -> None:
        super().__init__(503, "api_error", message, reason="database_away", retry_after=2)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message,), self.__dict__


class Asking:
    """Ask the database for a caller within this block.

    Raises:
        GatewayError: 503, it is unavailable; 529, too many wait for it.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TooManyWait):
            raise errors.overloaded() from None
        if isinstance(error, psycopg.Error):
            raise DatabaseAway from None


# One instance for all uses: it has no state.
asking = Asking()
