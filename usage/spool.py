"""Settlements that could not be written: kept in files on a persistent path, replayed later.

`*.jsonl` are replayed by the next start, or by `manage.py replay_spool`. `dead-letters.jsonl` holds single lines that
the database refused: an operator must look at them. A line is a settlement as JSON, or a call that passed without an
admission (usage.arbitration.Passed); it contains no key and no content.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections import Counter
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.db import DataError, IntegrityError, connection

from usage.tokens import TOKENS_PER_SECOND

logger = logging.getLogger(__name__)

DEAD_LETTERS = "dead-letters.jsonl"
# The beginning of a line that is a call which passed.
PASSED = b'{"passed":'


class Journal:
    """The calls that this process has let pass without the arbiter. They are in the process's own file, which is locked
    while the process lives, so that no other process replays it.

    A line is handed to the operating system: it outlives the process, but not a crash of the machine.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.descriptor = -1

    def write(self, line: bytes) -> None:
        """Store a call.

        Raises:
            OSError: it can't be stored.
        """
        if self.path is None:
            self._open()
        whole = line + b"\n"
        if os.write(self.descriptor, whole) != len(whole):
            raise OSError("the spool is full")

    def _open(self) -> None:
        path = _folder() / f"{_name()}-passed.jsonl"
        hidden = path.with_suffix(".new")
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        # The file is locked before another process can see it.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        hidden.rename(path)
        self.path, self.descriptor = path, descriptor

    def done(self) -> None:
        """Delete the file: all its calls are admitted."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Close the file, and leave its calls to the next start."""
        if self.path is not None:
            os.close(self.descriptor)
            self.path = None


def keep(lines: list[bytes]) -> None:
    """Write settlements to a spool file of this process. They are safely on disk when it returns. It never raises: if
    it fails, it logs them.
    """
    try:
        path = _folder() / f"{_name()}.jsonl"
        # A replay that begins meanwhile finds all of it or nothing: it deletes what it has read.
        hidden = path.with_suffix(".new")
        _append(hidden, lines)
        hidden.rename(path)
        _sync(path.parent)
    except OSError as error:
        for line in lines:
            logger.critical(
                "a settlement can't be spooled (%s): %s", type(error).__name__, line.decode("utf-8", "replace")
            )


def bury(line: bytes, why: str) -> None:
    """Put a line aside that can't be written to the ledger. It never raises: if it fails, it logs the line."""
    text = line.decode("utf-8", "replace")
    try:
        letter = {"at": datetime.now(UTC).isoformat(), "why": why, "settlement": text}
        path = _folder() / DEAD_LETTERS
        _append(path, [json.dumps(letter).encode()])
        _sync(path.parent)
    except OSError as error:
        logger.critical("a dead letter can't be stored (%s): %s", type(error).__name__, text)


def waiting() -> tuple[int, int]:
    """The number of settlements in the spool, and of dead letters."""
    spooled = dead = 0
    for path in settings.SPOOL_DIR.glob("*.jsonl"):
        with suppress(FileNotFoundError):  # it has just been replayed
            lines = path.read_bytes().count(b"\n")
            dead, spooled = (dead + lines, spooled) if path.name == DEAD_LETTERS else (dead, spooled + lines)
    return spooled, dead


def replay() -> dict[str, int]:
    """Write every spooled settlement to the ledger. A settlement that is there already changes nothing.

    Returns:
        the number of settlements by verdict (usage/arbiter/settlements.sql); `unreadable` lines are dead letters.

    Raises:
        django.db.OperationalError: the database is unavailable; the remaining settlements stay in the spool.
    """
    verdicts: Counter[str] = Counter()
    with ExitStack() as opened:
        files = [(path, file) for path in sorted(_folder().glob("*.jsonl")) if (file := _lock(path, opened))]
        lines = [(line, file) for _, file in files for line in file.read().splitlines() if line.strip()]
        passed = [(call, file) for line, file in lines if line.startswith(PASSED) and (call := _admit(line))]
        verdicts.update(_settle(line) for line, _ in lines if not line.startswith(PASSED))
        verdicts["unreadable"] += sum(line.startswith(PASSED) for line, _ in lines) - len(passed)
        verdicts.update(verdict for call, file in passed if (verdict := _interrupt(call, file)))
        for path, _ in files:
            path.unlink()
    return dict(+verdicts)


def _lock(path: Path, opened: ExitStack) -> BinaryIO | None:
    """Open and lock the file for this replay. None if another replay has it or had it, or if its process is alive."""
    if path.name == DEAD_LETTERS:
        return None
    with suppress(FileNotFoundError, BlockingIOError):
        file = opened.enter_context(path.open("rb"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    return None


def _admit(line: bytes) -> str | None:
    """Admit a call that passed. Returns its id; None if the line can't be read."""
    try:
        late = json.loads(line)
        asked = json.dumps([late["passed"] | {"admitted_at": late["admitted_at"]}])
        with connection.cursor() as cursor:
            cursor.execute("SELECT usage_admit_late(NULL, %s::jsonb)", [asked])
        return str(late["passed"]["id"])
    except (ValueError, TypeError, KeyError, DataError, IntegrityError) as error:
        bury(line, type(error).__name__)
        return None


def _interrupt(call: str, file: BinaryIO) -> str | None:
    """End a call that passed and was never settled, as the reaper does: its process has died."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT usage_interrupt(ARRAY[%s::uuid], ARRAY[to_timestamp(%s)], %s)",
            [call, os.fstat(file.fileno()).st_mtime, TOKENS_PER_SECOND],
        )
        row = cursor.fetchone()
    return "interrupted" if row and row[0] else None


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


def _name() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.getpid()}"


def _folder() -> Path:
    folder: Path = settings.SPOOL_DIR
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in missing:
        _sync(each.parent)
    return folder


def _sync(folder: Path) -> None:
    """Sync a folder, so that the names in it are safely on disk. Syncing a file saves only its contents."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _append(path: Path, lines: list[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"\n".join(lines) + b"\n")
        file.flush()
        os.fsync(file.fileno())
