"""Settlements that could not be written: kept in files on a persistent path, replayed later.

`*.jsonl` are replayed by the next start, or by `manage.py replay_spool`. `dead-letters.jsonl` holds what the database
refused by itself: somebody must look at it. A line is a settlement as JSON; it contains no key and no content.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.db import connection

logger = logging.getLogger(__name__)

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
    for path in _files():
        settlements = [json.loads(line) for line in path.read_text().splitlines()]
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, verdict FROM usage_settle(%s::jsonb)", [json.dumps(settlements)])
            others = [verdict for _, verdict in cursor.fetchall()]
        for verdict in others + ["settled"] * (len(settlements) - len(others)):
            verdicts[verdict] = verdicts.get(verdict, 0) + 1
        if "unknown" in others:
            path.rename(path.with_suffix(".unknown"))
            logger.error("%s has settlements of calls that the ledger doesn't know", path.name)
        else:
            path.unlink()
    return verdicts


def _files() -> Iterator[Path]:
    """Spool files, each claimed by renaming it, so that two starts don't replay the same one."""
    for path in sorted(_folder().glob("*.jsonl")):
        if path.name == DEAD_LETTERS:
            continue
        claimed = path.with_suffix(f".{os.getpid()}")
        try:
            path.rename(claimed)
        except FileNotFoundError:
            continue
        try:
            yield claimed
        finally:
            if claimed.exists():
                claimed.rename(path)


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
