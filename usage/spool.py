"""Settlements that could not be written: kept in files on a persistent path, replayed later.

`*.jsonl` are replayed by the next start, or by `manage.py replay_spool`. `dead-letters.jsonl` holds what the database
refused by itself: somebody must look at it. A line is a settlement as JSON; it contains no key and no content.
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.db import connection

DEAD_LETTERS = "dead-letters.jsonl"


def keep(lines: list[bytes]) -> Path:
    """Write settlements to a spool file of this process, safely on disk when it returns."""
    path = _folder() / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.getpid()}.jsonl"
    _append(path, lines)
    return path


def bury(line: bytes, why: str) -> None:
    """Put a settlement aside that can't be written by itself."""
    letter = {"at": datetime.now(UTC).isoformat(), "why": why, "settlement": json.loads(line)}
    _append(_folder() / DEAD_LETTERS, [json.dumps(letter).encode()])


def replay() -> dict[str, int]:
    """Write every spooled settlement to the ledger; what was written already changes nothing.

    Returns:
        how many had which verdict (usage/sql/arbiter.sql).
    """
    verdicts: dict[str, int] = {}
    for path in sorted(_folder().glob("*.jsonl")):
        if path.name != DEAD_LETTERS:
            for verdict in _replay(path):
                verdicts[verdict] = verdicts.get(verdict, 0) + 1
    return verdicts


def _replay(path: Path) -> list[str]:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []  # another start is at it
        settlements = [json.loads(line) for line in file.read().splitlines()]
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, verdict FROM usage_settle(%s::jsonb)", [json.dumps(settlements)])
            verdicts = {str(call): verdict for call, verdict in cursor.fetchall()}
        for settlement in settlements:
            if verdicts.get(settlement["id"]) == "unknown":
                bury(json.dumps(settlement).encode(), "neither hold nor row")
        path.unlink(missing_ok=True)
    return [verdicts.get(settlement["id"], "settled") for settlement in settlements]


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
