"""How a record looks in the log: one bounded line, and a traceback only where somebody has to look at it.

What a client can bring about at will is a line, once for each connection and reason. A fault of the program has its
traceback beside it, the end of it where it is long, once a minute for each place that it comes from: the same fault is
told the same way by all of them, and a client that has found it must not fill a disk.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback

LINE = 1000
TRACEBACK = 4000
SECONDS = 60
# Kinds of faults that are remembered.
KINDS = 1000

# What these say is about a request that is wrong.
OF_CLIENTS = "django.security"

# Where a request's scope has, in its state, what the log has about its connection.
LOGGED = "logged"


class Line(logging.Formatter):
    """Formats a record within bounds."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self.lock = threading.Lock()
        self.shown: dict[tuple[object, ...], float] = {}

    def format(self, record: logging.LogRecord) -> str:
        record.message = bounded(record.getMessage())
        record.asctime = self.formatTime(record)
        line = self.formatMessage(record)
        error = record.exc_info[1] if record.exc_info else None
        if error is None or is_of_client(record):
            return line
        line += f" ({bounded(f'{type(error).__name__}: {error}')})"
        if not self.is_due(record.name, error):
            return line
        return f"{line}\n{self.formatException(record.exc_info)[-TRACEBACK:]}"  # type: ignore[arg-type]

    def is_due(self, logger: str, error: BaseException) -> bool:
        """Whether the last traceback of this kind is long ago."""
        places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
        kind = (logger, type(error), *places[-1:])
        now = time.monotonic()
        with self.lock:
            if now - self.shown.get(kind, -SECONDS) < SECONDS:
                return False
            if len(self.shown) >= KINDS:
                self.shown.clear()
            self.shown[kind] = now
        return True


class OncePerConnection(logging.Filter):
    """Passes what is wrong with a connection's requests once for each reason: they may be thousands in a second."""

    def filter(self, record: logging.LogRecord) -> bool:
        scope = getattr(getattr(record, "request", None), "scope", None)
        logged = scope.get("state", {}).get(LOGGED) if isinstance(scope, dict) else None
        if logged is None or not is_of_client(record):
            return True
        reason = (record.name, getattr(record, "status_code", None))
        if reason in logged:
            return False
        logged.add(reason)
        return True


def bounded(text: str) -> str:
    """One line of it."""
    beginning = text[:LINE]
    if not beginning.isprintable():
        beginning = "".join(
            sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in beginning
        )
    return beginning[:LINE] + "…" if len(text) > LINE else beginning


def is_of_client(record: logging.LogRecord) -> bool:
    """Whether the request is what is wrong."""
    status: int = getattr(record, "status_code", 500)
    return record.name.startswith(OF_CLIENTS) or status < 500
