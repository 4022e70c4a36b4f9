"""The log's formats: one line of limited length per record, and a traceback only for a fault of the program.

Lines are for people, or JSON (LOG_FORMAT). Each names the request that it belongs to. What looks like a key is masked
in all of them.

A bad request is logged in one line, once per connection and reason. A fault of the program also gets its traceback,
once a minute per place in the code; of a long traceback, only the end. Repeated tracebacks of the same place say
nothing new, and a client that can trigger the fault must not be able to fill the disk.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import traceback
from datetime import UTC, datetime

from usage.request_ids import CURRENT, request_id

LINE = 1000
TRACEBACK = 4000
SECONDS = 60
# Kinds of faults whose last traceback is remembered.
KINDS = 1000

# Records of these loggers are about bad requests.
OF_CLIENTS = "django.security"

# Keys of ours, of providers and of clouds, by how they begin; what follows is not shown.
KEYS = re.compile(r"\b((?:sk|gt|rk|pk)-(?:[a-z]{2,8}-)?|AKIA|ASIA|AIza|gh[pousr]_|xox[abp]-)[A-Za-z0-9_-]{16,}")

# The key in the state of a request's scope for the reasons already logged for its connection.
LOGGED = "logged"


class Lines(logging.Formatter):
    """What both formats share: which faults get a traceback now, and what no line may have."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self.lock = threading.Lock()
        self.shown: dict[tuple[object, ...], float] = {}

    def fault(self, record: logging.LogRecord) -> tuple[str, str]:
        """The exception of a record in a line, and its traceback; empty where none is due."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None or is_of_client(record):
            return "", ""
        words = f"{type(error).__name__}: {error}"
        trace = ""
        if self.is_due(record.name, error):
            trace = self.formatException(record.exc_info)[-TRACEBACK:]  # type: ignore[arg-type]
        return words, trace

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


class LineFormatter(Lines):
    """Formats a record as a line of limited length for people, with a traceback if one is due."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = masked(bounded(record.getMessage()))
        record.asctime = self.formatTime(record)
        line = self.formatMessage(record)
        request = CURRENT.get()
        if request is not None and request.hex not in record.message:
            line += f" [{request_id(request)}]"
        words, trace = self.fault(record)
        if words:
            line += f" ({masked(bounded(words))})"
        return f"{line}\n{masked(trace)}" if trace else line


class JsonFormatter(Lines):
    """Formats a record as one line of JSON in ASCII: no byte of a stranger's can end the line or move a cursor.

    A record's `fields` are members beside those that every line has (docs/logs.md).
    """

    def format(self, record: logging.LogRecord) -> str:
        written = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": cut(record.getMessage()),
        }
        request = CURRENT.get()
        if request is not None:
            written["request_id"] = request_id(request)
        words, trace = self.fault(record)
        if words:
            written["error"] = cut(words)
        if trace:
            written["traceback"] = trace
        written.update(getattr(record, "fields", ()))
        return masked(json.dumps(written, default=str, separators=(",", ":")), "\\\\u2026")


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


def cut(text: str) -> str:
    """The beginning of a text, for JSON, which escapes it."""
    return text[:LINE] + "…" if len(text) > LINE else text


def masked(text: str, rest: str = "…") -> str:
    """The text without what looks like a key: of each, its beginning, and `rest` (a template of `re`)."""
    return KEYS.sub(rf"\1{rest}", text)


def is_of_client(record: logging.LogRecord) -> bool:
    """Whether the record is about a bad request rather than a fault of the program."""
    status: int = getattr(record, "status_code", 500)
    return record.name.startswith(OF_CLIENTS) or status < 500
