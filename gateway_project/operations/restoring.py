"""Restores a backup into an empty deployment: docs/backup.md. The copy takes no calls until it is activated."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection

from gateway_project.first_run import OLDEST_POSTGRES, SET_UP_LOCK
from gateway_project.operations import archive, programs, secrets_file
from gateway_project.operations.backing_up import MILLION, Progress
from keys import keyring
from keys.connection import parameters
from keys.errors import Unusable
from keys.keyring import Pepper, pepper_of
from keys.models import ProviderKey
from usage import readiness, restored_copies, transaction_numbers, verification

ANYTHING = """
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_|^information_schema$' AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
"""
SERVER = "SELECT current_setting('server_version_num')::int / 10000"
# The last statements of the transaction that loads a dump: at no moment is there a copy that takes calls.
WAITS = """
SELECT set_config('search_path', relnamespace::regnamespace::text, true),
    set_config('bursar.actor', '{{"kind": "command", "name": "restore"}}', true)
FROM pg_class WHERE relname = 'usage_restoredcopy';
INSERT INTO usage_restoredcopy (id, restored_at, taken_at, was_paused)
SELECT 1, clock_timestamp(), '{taken_at}', coalesce((SELECT paused FROM keys_gateway LIMIT 1), false)
ON CONFLICT DO NOTHING;
INSERT INTO keys_gateway (id, paused, catalogue_revision) VALUES (1, true, 1)
ON CONFLICT (id) DO UPDATE SET paused = true;
"""
# Folders of an archive, and where they belong.
FOLDERS = {"spool": "SPOOL_DIR", "archive": "ARCHIVE_DIR"}

Say = Callable[[str], None]


def restore(source: Path, secrets: Path | None, folder: Path | None, say: Say) -> list[str]:
    """Restore an archive into the empty database and the empty folders of this deployment.

    Args:
        secrets: the file of its secrets; None: the deployment has them already.
        folder: of PostgreSQL's programs; None: the embedded server's.

    Returns:
        what is wrong with the copy; empty: nothing is.

    Raises:
        Unusable: bad input; nothing was changed.
        programs.Failed: the dump can't be loaded; the database is empty as before.
    """
    lists = secrets_file.read(secrets) if secrets is not None else None
    opened = open_archive(source, lists)
    say(f"Checking {source}, made at {opened.manifest['made_at']}.")
    opened.check(Progress(say, "Checked"))
    places = _empty_places(opened)
    _refuse_newer(opened)
    taken_at = datetime.fromisoformat(opened.manifest["made_at"])
    with _alone() as link:
        server = _empty_server(link)
        if server < OLDEST_POSTGRES:
            raise Unusable(f"PostgreSQL {OLDEST_POSTGRES} or later is needed, this is {server}")
        if lists is not None:
            for path in secrets_file.install(lists):
                say(f"{path} has the secrets of the file now.")
        say("Loading the database.")
        with opened.open(archive.DATABASE) as dump:
            size = opened.parts[archive.DATABASE]["bytes"] / MILLION
            progress = Progress(say, f"Loaded, of {size:,.0f} MB")
            waits = WAITS.format(taken_at=taken_at.isoformat())
            programs.load(programs.newest(folder), parameters(), dump, progress, waits)
        connection.close()
        _go_on(say)
        for name, target in places.items():
            _put(opened, name, target)
        say("Applying migrations.")
        try:
            call_command("migrate", verbosity=0, interactive=False)
        except CommandError as error:
            raise programs.Failed(str(error)) from None
        return check(say)


def mend(say: Say) -> None:
    """Make a database that other means have loaded a waiting copy, and its numbers of transactions go on."""
    connection.ensure_connection()
    _go_on(say)
    try:
        restored_copies.mark(None)
    except DatabaseError:
        # A dump of an earlier version lacks the table.
        call_command("migrate", verbosity=0, interactive=False)
        restored_copies.mark(None)


def _go_on(say: Say) -> None:
    with psycopg.connect(**parameters(), autocommit=True) as link:
        added = transaction_numbers.mend(link)
    if added:
        say(f"This server counts transactions from a lower number: {added:,} is added from now on.")


def activate(say: Say) -> None:
    """Take calls from now on.

    Raises:
        Unusable: this database isn't a waiting copy.
    """
    if restored_copies.is_waiting():
        # A restoration that was killed may have left this undone.
        _go_on(say)
    restored_copies.activate()


def check(say: Say) -> list[str]:
    """What is wrong with the ledger, the audit log and the secrets of a copy."""
    from keys.audit import verification as audit

    say("Verifying ledger, audit log and secrets.")
    wrong = [str(fault) for fault in verification.check_point().faults]
    try:
        audit.verify(lambda checked, seal: None)
    except audit.DoesNotFit as error:
        wrong.append(f"the audit log doesn't fit its seals: {error}")
    for row in ProviderKey.objects.exclude(secret_ciphertext=b"").order_by("name"):
        try:
            keyring.decrypt(row.secret_ciphertext)
        except keyring.UnreadableSecret as error:
            wrong.append(f"the provider key “{row.name}”: {error}")
    return wrong


def open_archive(source: Path, lists: dict[str, list[str]] | None) -> archive.Reader:
    """The archive, if its manifest is as it was sealed.

    Raises:
        Unusable: it isn't, or can't be read.
    """
    peppers: list[Pepper] = [pepper_of(line) for line in lists["peppers"]] if lists else keyring.peppers()
    return archive.Reader(source, peppers)


def _refuse_newer(opened: archive.Reader) -> None:
    known = {f"{app}.{name}" for app, name in readiness.migrations_of_code()}
    ours = {name.partition(".")[0] for name in known}
    unknown = [name for name in opened.manifest["migrations"] if name.partition(".")[0] in ours and name not in known]
    if unknown:
        raise Unusable(
            f"the backup is of version {opened.manifest['version']}, whose migration {unknown[0]} this version doesn't "
            "know: restore it with that version, then upgrade"
        )


@contextlib.contextmanager
def _alone() -> Iterator[psycopg.Connection[Any]]:
    """A connection that keeps other machines' set-up waiting (first_run.py)."""
    connection.ensure_connection()
    with psycopg.connect(**parameters(), autocommit=True) as link:
        row = link.execute("SELECT pg_try_advisory_lock(%s)", [SET_UP_LOCK]).fetchone()
        if row != (True,):
            raise Unusable("another process sets this database up now: a backup is restored into an empty one")
        yield link


def _empty_server(link: psycopg.Connection[Any]) -> int:
    """The server's major version.

    Raises:
        Unusable: the database isn't empty.
    """
    row = link.execute(ANYTHING).fetchone()
    if row is not None and row[0]:
        raise Unusable(
            f"the database “{link.info.dbname}” isn't empty ({row[0]} tables and sequences): a backup is restored into "
            "an empty one, so create another"
        )
    row = link.execute(SERVER).fetchone()
    assert row is not None
    return int(row[0])


def _empty_places(opened: archive.Reader) -> dict[str, Path]:
    """Where the files of an archive go.

    Raises:
        Unusable: files are there already.
    """
    places = {part: Path(getattr(settings, name)) for part, name in FOLDERS.items()}
    places["audit"] = Path(settings.VAR_DIR) / "audit"
    for part, target in places.items():
        if opened.within(part) and target.is_dir() and any(target.iterdir()):
            raise Unusable(f"{target} isn't empty: a backup is restored into empty folders, so move its files away")
    return places


def _put(opened: archive.Reader, part: str, target: Path) -> None:
    for name, relative in opened.within(part).items():
        path = target / relative
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with opened.open(name) as source, os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
            if os.geteuid() == 0:
                owner = target.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
