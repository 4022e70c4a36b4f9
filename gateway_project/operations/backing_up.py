"""Writes a backup of a deployment, running or not: docs/backup.md says what is in it and why."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection

from gateway_project.operations import archive, programs, secrets_file
from keys import keyring
from keys.audit import seal_file
from keys.connection import parameters
from keys.errors import Unusable
from keys.product import VERSION
from usage import functions

# Seconds between two lines of progress.
STEP = 10.0
MILLION = 1_000_000

ABOUT = """
SELECT current_setting('server_version_num')::int / 10000, pg_database_size(current_database()), pg_export_snapshot(),
    now(), coalesce((SELECT max(number) FROM keys_auditseal), 0),
    (SELECT array_agg(app || '.' || name ORDER BY app, name) FROM django_migrations)
"""

Say = Callable[[str], None]


class Progress:
    """Says how many bytes have passed, every few seconds."""

    def __init__(self, say: Say, what: str) -> None:
        self.say, self.what, self.bytes, self.next = say, what, 0, time.monotonic() + STEP

    def __call__(self, piece: bytes) -> None:
        self.bytes += len(piece)
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + STEP
            self.say(f"{self.what}: {self.bytes / MILLION:,.0f} MB.")


def back_up(to: Path, secrets: Path | None, folder: Path | None, say: Say, *, months: bool = True) -> None:
    """Write the archive, and the secrets beside it.

    Args:
        secrets: the file for the secrets; None: they are not written.
        folder: of PostgreSQL's programs; None: the embedded server's.
        months: whether the files of archived months go into the archive.

    Raises:
        Unusable: bad input; nothing was written.
        programs.Failed: PostgreSQL's program failed, or the disk is full; nothing is left of the archive.
    """
    if secrets is not None and secrets.resolve() == to.resolve():
        raise Unusable("archive and secrets can't be the same file")
    with _snapshot() as about:
        found = programs.folder_for(about["server"], folder)
        with _no_half(secrets), archive.Writer(to) as made:
            if secrets is not None:
                secrets_file.write(secrets)
            try:
                length = _write(made, about, found, say, months=months)
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                reason = "the disk is full" if full else error.strerror
                raise programs.Failed(f"{to} can't be written: {reason}; nothing is left of it") from None
    say(f"{to} is complete: {length / MILLION:,.1f} MB, {len(made.parts)} parts.")


def _write(made: archive.Writer, about: dict[str, Any], folder: Path, say: Say, *, months: bool) -> int:
    # Before the dump: a settlement that is written meanwhile is in both, which changes nothing.
    for path in sorted(settings.SPOOL_DIR.glob("*.jsonl")):
        _file(made, f"spool/{path.name}", path)
    say(f"Dumping the database of {about['size'] / MILLION:,.0f} MB.")
    progress = Progress(say, "Dumped, compressed")
    with made.part(archive.DATABASE) as write:

        def sink(piece: bytes) -> None:
            write(piece)
            progress(piece)

        programs.dump(folder, parameters(), about["snapshot"], sink)
    _seals(made, about["seal"])
    if months and settings.ARCHIVE_DIR.is_dir():
        say("Adding the files of archived months.")
        for path in sorted(each for each in settings.ARCHIVE_DIR.rglob("*") if each.is_file()):
            if not path.name.startswith("."):
                _file(made, f"archive/{path.relative_to(settings.ARCHIVE_DIR)}", path)
    manifest = {
        "made_at": about["at"].astimezone(UTC).isoformat(),
        "version": VERSION,
        "arbiter": functions.SCHEMA,
        "postgresql": about["server"],
        "migrations": about["migrations"],
        "archived_months": months,
        "master_keys": len(keyring.lines("master_keys")),
    }
    return made.finish(manifest, keyring.peppers()[0])


@contextlib.contextmanager
def _snapshot() -> Iterator[dict[str, Any]]:
    """A snapshot of the database that pg_dump reads too, and what is to be known of it."""
    connection.ensure_connection()  # explains itself where there is no database
    with psycopg.connect(**parameters()) as link:
        link.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = link.execute(ABOUT).fetchone()
        assert row is not None
        yield dict(zip(("server", "size", "snapshot", "at", "seal", "migrations"), row, strict=True))


@contextlib.contextmanager
def _no_half(secrets: Path | None) -> Iterator[None]:
    """Without an archive there are no secrets either, unless they were there before."""
    before = secrets is not None and secrets.exists()
    try:
        yield
    except BaseException:
        if secrets is not None and not before:
            secrets.unlink(missing_ok=True)
        raise


def _file(made: archive.Writer, name: str, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file, made.part(name) as write:
        while piece := file.read(archive.CHUNK):
            write(piece)


def _seals(made: archive.Writer, last: int) -> None:
    """The file of seals, up to the last seal of the dump: a copy mustn't know of seals that its database lacks."""
    path = seal_file.path()
    if not path.exists():
        return
    with made.part("audit/seals") as write:
        for line in path.read_bytes().splitlines(keepends=True):
            if seal_file.number(line) <= last:
                write(line)
