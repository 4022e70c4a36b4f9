"""Keeps a copy of each seal's digest outside of the database, in `audit/seals` of the data folder.

A forger with the rights of the database's owner can change events and compute all seals again. This file still has the
old digests. Each line is JSON: number, time, last event and digest. Lines are only appended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.conf import settings

from keys.audit.models import AuditSeal


def path() -> Path:
    return Path(settings.VAR_DIR) / "audit" / "seals"


def read() -> dict[int, dict[str, Any]]:
    """The file's lines by the seal's number; a line that can't be read is under 0."""
    found: dict[int, dict[str, Any]] = {}
    for line in path().read_text().splitlines() if path().exists() else ():
        try:
            entry = json.loads(line)
            # If a number occurs twice, its first line counts, because a forger can only append.
            found.setdefault(int(entry["number"]), entry)
        except (ValueError, KeyError, TypeError):
            found[0] = {"line": line}
    return found


def number(line: bytes) -> int:
    """The number of the seal in a line; 0 if the line can't be read."""
    try:
        return int(json.loads(line)["number"])
    except (ValueError, KeyError, TypeError):
        return 0


def last() -> int:
    """The highest number in the file; 0 if the file has no line."""
    return max(read(), default=0)


def append(seals: Iterable[AuditSeal]) -> None:
    """Append these seals, and wait until they are on the disk."""
    lines = "".join(json.dumps(entry(each)) + "\n" for each in seals)
    if not lines:
        return
    file = path()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_new = not file.exists()
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as out:
        if is_new and os.geteuid() == 0:
            # If root runs a command, the gateway's own user must still be able to write the file.
            owner = file.parent.stat()
            os.fchown(out.fileno(), owner.st_uid, owner.st_gid)
        out.write(lines)
        out.flush()
        os.fsync(out.fileno())


def entry(seal: AuditSeal) -> dict[str, Any]:
    """The line of the file for a seal."""
    return {
        "number": seal.number,
        "made_at": seal.made_at.isoformat(),
        "last_event": seal.last_event,
        "digest": seal.digest,
    }
