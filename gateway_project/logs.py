"""The log's format: one line of limited length per record, and a traceback only for a fault of the program.

A bad request is logged in one line, once per connection and reason. A fault of the program also gets its traceback,
once a minute per place in the code; of a long traceback, only the end. Repeated tracebacks of the same place say
nothing new, and a client that can trigger the fault must not be able to fill the disk.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback

LINE = 1000
TRACEBACK = 4000
SECONDS = 60
# Kinds of faults whose last traceback is remembered.
KINDS = 1000

# Records of these loggers are about bad requests.
OF_CLIENTS = "django.security"

# The key in the state of a request's scope for the reasons already logged for its connection.
LOGGED = "logged"


class LineFormatter(logging.Formatter):
    """Formats a record as a line of limited length, with a traceback if one is due."""

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
        """Whether no traceback of this kind was logged in the last minute."""
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
    """Passes a record about bad requests once per connection and reason: there may be thousands in a second."""

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
    """The text as one line of limited length, with unprintable characters escaped."""
    beginning = text[:LINE]
    if not beginning.isprintable():
        beginning = "".join(
            sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in beginning
        )
    return beginning[:LINE] + "…" if len(text) > LINE else beginning


def is_of_client(record: logging.LogRecord) -> bool:
    """Whether the record is about a bad request rather than a fault of the program."""
    status: int = getattr(record, "status_code", 500)
    return record.name.startswith(OF_CLIENTS) or status < 500
