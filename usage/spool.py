"""Settlements that could not be written: kept in files on a persistent path, replayed later.

`*.jsonl` are replayed by the next start, or by `manage.py replay_spool`. `dead-letters.jsonl` holds what the database
refused by itself: somebody must look at it. A line is a settlement as JSON; it contains no key and no content.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.db import DataError, IntegrityError, connection

logger = logging.getLogger(__name__)

DEAD_LETTERS = "dead-letters.jsonl"


def keep(lines: list[bytes]) -> None:
    """Write settlements to a spool file of this process, safely on disk when it returns. Never raises: then the log is
    the last place to keep them."""
    try:
        _append(_folder() / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.getpid()}.jsonl", lines)
    except OSError as error:
        for line in lines:
            logger.critical(
                "a settlement can't be kept (%s): %s", type(error).__name__, line.decode("utf-8", "replace")
            )


def bury(line: bytes, why: str) -> None:
    """Put a line aside that can't be written by itself. Never raises: then the log is the last place to keep it."""
    text = line.decode("utf-8", "replace")
    try:
        letter = {"at": datetime.now(UTC).isoformat(), "why": why, "settlement": text}
        _append(_folder() / DEAD_LETTERS, [json.dumps(letter).encode()])
    except OSError as error:
        logger.critical("a dead letter can't be kept (%s): %s", type(error).__name__, text)


def replay() -> dict[str, int]:
    """Write every spooled settlement to the ledger; what was written already changes nothing.

    Returns:
        how many had which verdict (usage/sql/arbiter.sql); `unreadable` lines are dead letters.

    Raises:
        django.db.OperationalError: the database is away; what is left stays in the spool.
    """
    verdicts: Counter[str] = Counter()
    for path in sorted(_folder().glob("*.jsonl")):
        if path.name != DEAD_LETTERS:
            with suppress(FileNotFoundError, BlockingIOError):  # another start is at it, or was
                verdicts.update(_replay(path))
    return dict(verdicts)


def _replay(path: Path) -> list[str]:
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        verdicts = [_settle(line) for line in file.read().splitlines() if line.strip()]
        path.unlink()
    return verdicts


def _settle(line: bytes) -> str:
    try:
        call = json.loads(line)["id"]
        with connection.cursor() as cursor:
            cursor.execute("SELECT verdict FROM usage_settle(jsonb_build_array(%s::jsonb))", [line.decode()])
            row = cursor.fetchone()
    except (ValueError, TypeError, KeyError, DataError, IntegrityError) as error:
        bury(line, type(error).__name__)
        return "unreadable"
    verdict = row[0] if row else "settled"
    if verdict == "unknown":
        logger.error("call %s has neither hold nor row: kept as a dead letter", call)
        bury(line, "neither hold nor row")
    return str(verdict)


def _folder() -> Path:
    folder: Path = settings.SPOOL_DIR
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _append(path: Path, lines: list[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"\n".join(lines) + b"\n")
        file.flush()
        os.fsync(file.fileno())
