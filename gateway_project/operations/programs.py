"""Runs PostgreSQL's `pg_dump`, `pg_restore` and `psql`: those of the embedded server's wheel, or of a folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from psycopg.conninfo import make_conninfo

from gateway_project import embedded_postgres
from gateway_project.embedded_postgres import CannotStart
from keys.errors import Unusable

CHUNK = 1024 * 1024
# What some servers refuse, though it means nothing for the data: a setting that servers before 17 don't know and newer
# programs put into every dump, and the version of each column, which only some builds of PostgreSQL count.
LEFT_OUT = re.compile(rb"SET transaction_timeout = 0;|ALTER TABLE ONLY \S+ ALTER COLUMN .+ SET \(pg_attver=\d+\);")
# The first line of a dump's data, after which nothing is left out.
DATA = b"COPY "

Sink = Callable[[bytes], object]


class Failed(Exception):
    """A program of PostgreSQL's has failed. The message is one line."""


def folder_for(server: int, given: Path | None = None) -> Path:
    """The folder of programs that can dump a server of this major version: the newest ones, which know most servers.

    Args:
        given: a folder that the operator has named; only its programs are asked.

    Raises:
        Unusable: all programs are older than the server, whose dump they refuse.
    """
    if given is not None:
        if not (given / "pg_dump").is_file():
            raise Unusable(
                f"there is no pg_dump in {given}: name the folder that has it, like /usr/lib/postgresql/18/bin"
            )
        found = {embedded_postgres.major_version(given / "pg_dump"): given}
    else:
        found = _bundled()
    if max(found) < server:
        raise Unusable(
            f"the server is PostgreSQL {server}, and the pg_dump at hand is of version {max(found)}, which refuses "
            f"newer servers: install the programs of PostgreSQL {server}, and name their folder with --programs"
        )
    return found[max(found)]


def newest(given: Path | None = None) -> Path:
    """The folder of the newest programs: they read the dumps of all earlier ones."""
    if given is not None:
        return folder_for(0, given)
    return max(_bundled().items())[1]


def _bundled() -> dict[int, Path]:
    try:
        return {version: folder / "bin" for version, folder in embedded_postgres.installations().items()}
    except CannotStart:
        raise Unusable("PostgreSQL's programs are not installed here: name their folder with --programs") from None


def connection_of(parameters: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """libpq's connection string without its password, and the environment that has the password: other users of the
    machine can read command lines."""
    given = {name: value for name, value in parameters.items() if name not in ("password", "options")}
    password = parameters.get("password")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return make_conninfo(**given), environment | ({"PGPASSWORD": str(password)} if password else {})


def dump(folder: Path, parameters: Mapping[str, Any], snapshot: str, sink: Sink) -> None:
    """Dump a database in PostgreSQL's own format.

    Args:
        snapshot: the exported snapshot whose state is dumped; empty: the present state.
        sink: gets the dump in pieces.

    Raises:
        Failed: pg_dump has failed.
    """
    conninfo, environment = connection_of(parameters)
    command = [os.fspath(folder / "pg_dump"), "--format=custom", "--no-owner", "--no-privileges", "--dbname", conninfo]
    if snapshot:
        command.append(f"--snapshot={snapshot}")
    with _errors() as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors)  # noqa: S603
        try:
            assert process.stdout is not None
            while piece := process.stdout.read(CHUNK):
                sink(piece)
            code = process.wait()
        finally:
            _end(process)
        if code:
            raise Failed(f"pg_dump failed: {_reason(errors)}")


def load(
    folder: Path,
    parameters: Mapping[str, Any],
    source: IO[bytes],
    noted: Sink = lambda piece: None,
    at_last: str = "",
) -> None:
    """Load a dump into an empty database, in one transaction.

    Args:
        folder: of programs that are at least as new as those that made the dump.
        source: the dump.
        noted: gets each piece that was read.
        at_last: SQL that is a part of the same transaction.

    Raises:
        Failed: a program has failed; the database is as it was.
    """
    conninfo, environment = connection_of(parameters)
    # Through psql, because pg_restore by itself can't leave out lines that a server refuses.
    reading = [os.fspath(folder / "pg_restore"), "--file=-", "--no-owner", "--no-privileges"]
    writing = [os.fspath(folder / "psql"), "--no-psqlrc", "--quiet", "--single-transaction", "--output=/dev/null"]
    writing += ["--set=ON_ERROR_STOP=1", "--dbname", conninfo]
    with _errors() as read_errors, _errors() as write_errors, contextlib.ExitStack() as started:
        reader = subprocess.Popen(reading, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=read_errors)  # noqa: S603
        started.callback(_end, reader)
        writer = subprocess.Popen(writing, env=environment, stdin=subprocess.PIPE, stderr=write_errors)  # noqa: S603
        started.callback(_end, writer)
        assert reader.stdin is not None
        feed = _Feed(source, reader.stdin, noted)
        feed.start()
        assert reader.stdout is not None
        assert writer.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # psql has failed, and says why
            _pass_on(reader.stdout, writer.stdin)
        # Without the whole dump, psql must not commit what it has.
        if writer.poll() is None:
            code = reader.wait()
            feed.join()
            if code or feed.failure:
                raise Failed(f"pg_restore failed: {feed.failure or _reason(read_errors)}")
        with contextlib.suppress(BrokenPipeError):
            writer.stdin.write(at_last.encode())
            writer.stdin.close()
        if writer.wait():
            raise Failed(f"the database refused the dump: {_reason(write_errors)}")


class _Feed(threading.Thread):
    """Gives a program its input while another thread reads its output."""

    def __init__(self, source: IO[bytes], target: IO[bytes], noted: Sink) -> None:
        super().__init__(daemon=True)
        self.source, self.target, self.noted = source, target, noted
        self.failure = ""

    def run(self) -> None:
        try:
            with self.target:
                while piece := self.source.read(CHUNK):
                    self.target.write(piece)
                    self.noted(piece)
        except BrokenPipeError:
            pass  # the program has ended, and its exit code says how
        except Exception as error:
            self.failure = f"the archive can't be read ({type(error).__name__})"


def _pass_on(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy SQL, without the lines before the data that some servers refuse."""
    for line in source:
        if not LEFT_OUT.fullmatch(line.strip()):
            target.write(line)
        if line.startswith(DATA):
            break
    shutil.copyfileobj(source, target, CHUNK)
    target.flush()


@contextlib.contextmanager
def _errors() -> Iterator[Any]:
    """A file for what a program says on stderr: a pipe that is not read would stop it."""
    with tempfile.TemporaryFile() as file:
        yield file


def _reason(errors: Any) -> str:
    """The first error that a program has printed, without data: the lines after it may quote rows."""
    errors.seek(0)
    lines = errors.read(100_000).decode(errors="replace").splitlines()
    found = [line for line in lines if "error:" in line.lower()] or lines or ["it gave no reason"]
    return str(found[0].strip()[:500])


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
