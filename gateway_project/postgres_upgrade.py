"""Moves the embedded database to a new major version of PostgreSQL, when the wheel no longer has the one that wrote it.

Only programs of a data folder's own major version can open it. So each start keeps them beside the data, as hard links
where it can. When the wheel comes without them, the old server is started from there once more, dumped, and loaded into
a new data folder. The old folder stays. A run that is killed leaves the old data as they were, or both complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg

from gateway_project import embedded_postgres, processes
from gateway_project.embedded_postgres import CannotStart, Say, Server
from gateway_project.processes import User

# Beside the data: what is being made, and what is complete but not yet in its place.
NEW, READY, DUMP = "upgrade", "data.upgraded", "upgrade.dump"
# The old server takes this time at most to write all it has in memory.
STOP_SECONDS = 120


def prepared(var_dir: Path, say: Say) -> Server:
    """Find or create this deployment's server, of a version that its programs can open.

    Raises:
        CannotStart: the message has the reason.
    """
    upgrade(var_dir, say)
    server = embedded_postgres.prepare(var_dir, say)
    keep_programs(server)
    return server


def keep_programs(server: Server) -> None:
    """Keep the programs that can open the data beside them. Repeating it changes nothing.

    Raises:
        CannotStart: they can't be copied.
    """
    version = embedded_postgres.major_version(server.installation / "bin" / "postgres")
    place = server.data.with_name(f"programs-{version}")
    if place.exists():
        return
    package = server.installation.parent
    parts = [Path(package.name, server.installation.name), Path(f"{package.name}.libs")]
    draft = place.with_name(f".{place.name}")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        for part in parts:
            if (package.parent / part).is_dir():
                shutil.copytree(package.parent / part, draft / part, symlinks=True, copy_function=_linked)
        draft.rename(place)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(draft, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "the disk may be full"
        raise CannotStart(f"PostgreSQL's programs can't be kept in {place}: {reason}.") from None


def upgrade(var_dir: Path, say: Say) -> None:
    """Move the data to the wheel's newest version, if the wheel can't open them. Otherwise nothing happens.

    Raises:
        CannotStart: the data can't be moved; they are as they were.
    """
    as_root = os.geteuid() == 0
    user = embedded_postgres.system_user(say) if as_root else None
    folder = embedded_postgres.SYSTEM_DIR / embedded_postgres.instance(var_dir) if as_root else var_dir / "postgres"
    data = folder / "data"
    if not data.exists() and (folder / READY).exists():
        (folder / READY).rename(data)
    version_file = data / "PG_VERSION"
    available = embedded_postgres.installations()
    if not version_file.exists() or (old := int(version_file.read_text())) in available:
        return
    kept = next((folder / f"programs-{old}").glob("*/*/bin/postgres"), None)
    if kept is None:
        return  # `prepare` refuses the data, and says why
    new = max(available)
    _refuse_full_disk(folder, data)
    say(f"Moving the database from PostgreSQL {old} to {new}. The old folder is kept.")
    with _scratch(folder, user) as scratch:
        source = Server(_reachable((old, kept.parent.parent), user, say), data, scratch / "socket", user)
        target = Server(_reachable((new, available[new]), user, say), scratch / "data", scratch / "socket", user)
        _dump(source, target, scratch, say)
        _load(embedded_postgres.initialise(target, lambda line: None), scratch, say)
        target.data.rename(folder / READY)
    before = folder / f"data-{old}-until-{int(data.stat().st_mtime)}"
    data.rename(before)
    (folder / READY).rename(data)
    say(f"The database is PostgreSQL {new} now. The old one is in {before}; remove it when you no longer need it.")


def _dump(source: Server, target: Server, scratch: Path, say: Say) -> None:
    from gateway_project.operations import programs  # only here, so that a usual start stays small

    with _running(source, scratch), (scratch / DUMP).open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        say("Dumping it.")
        try:
            programs.dump(target.installation / "bin", _parameters(source), "", file.write)
        except programs.Failed as error:
            raise CannotStart(f"The database can't be moved: {error}.") from None
        except OSError as error:
            raise CannotStart(f"The database can't be moved: {scratch} can't be written: {error.strerror}.") from None


def _load(target: Server, scratch: Path, say: Say) -> None:
    from gateway_project.operations import programs
    from usage import transaction_numbers

    with _running(target, scratch), (scratch / DUMP).open("rb") as file:
        say("Loading it.")
        try:
            programs.load(target.installation / "bin", _parameters(target), file)
        except programs.Failed as error:
            raise CannotStart(f"The database can't be moved: {error}.") from None
        with psycopg.connect(target.url, autocommit=True) as connection:
            # The new server counts transactions from its own beginning.
            transaction_numbers.mend(connection)
            connection.execute("ANALYZE")


@contextlib.contextmanager
def _scratch(folder: Path, user: User | None) -> Iterator[Path]:
    """A folder for what is being made, which is gone afterwards."""
    scratch = folder / NEW
    shutil.rmtree(scratch, ignore_errors=True)
    embedded_postgres.make_folder(scratch, 0o700, user)
    try:
        embedded_postgres.make_folder(scratch / "socket", 0o700, user)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _running(server: Server, scratch: Path) -> Iterator[None]:
    log = scratch / "postgres.log"
    process = embedded_postgres.start(server, log)
    try:
        embedded_postgres.wait_until_ready(server, process, log)
        yield
    finally:
        processes.end(process, signal.SIGINT, patience=STOP_SECONDS)


def _parameters(server: Server) -> dict[str, str]:
    database, role = embedded_postgres.DATABASE, embedded_postgres.ROLE
    return {"host": os.fspath(server.socket), "user": role, "dbname": database}


def _reachable(chosen: tuple[int, Path], user: User | None, say: Say) -> Path:
    return embedded_postgres.reachable(chosen, user, say) if user else chosen[1]


def _refuse_full_disk(folder: Path, data: Path) -> None:
    needed = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if free < needed * 1.3:
        raise CannotStart(
            f"Moving the database to a new version of PostgreSQL needs {needed * 1.3 / 1e6:,.0f} MB in {folder}, which "
            f"has {free / 1e6:,.0f} MB left."
        )


def _linked(source: str, target: str) -> None:
    """Hard-link a file: pip replaces files and never changes them. Copy it where that is impossible."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target)
