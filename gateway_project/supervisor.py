"""The program of `make run`: it starts every process of the gateway, replaces processes that die, and stops all in
order.

PostgreSQL (embedded) ▸ set-up ▸ web processes, worker and beat; stopped as web ▸ worker ▸ beat ▸ PostgreSQL.
SIGINT or SIGTERM: stop, and let open calls end; a second one cuts them off. SIGHUP: replace the web processes one by
one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from gateway_project import database, embedded_postgres, env_file, page_socket, processes, roles, unprivileged
from gateway_project.configuration import Configuration, WrongConfiguration, configuration
from gateway_project.embedded_postgres import CannotStart
from gateway_project.postgres_upgrade import prepared
from gateway_project.roles import Child, Role
from gateway_project.unprivileged import Place
from gateway_project.web import BACKLOG

SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
STOPPING = {signal.SIGINT, signal.SIGTERM}

# How the names of processes begin that answer requests.
WEB = ("web-", "pages-")

# A stop signal often comes twice at once: from `make`, and to the whole group.
SAME_SIGNAL_SECONDS = 1.0
HURRIED_SECONDS = 5.0
ORPHAN_SECONDS = 10.0
ORPHAN_STEPS = [(None, ORPHAN_SECONDS), (signal.SIGTERM, HURRIED_SECONDS), (signal.SIGKILL, HURRIED_SECONDS)]

HAD_TERMINAL = sys.stdin is not None and sys.stdin.isatty()


def say(line: str) -> None:
    """Print a line. The supervisor goes on if the terminal is closed."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


class Supervisor:
    """Keeps one process running in every role."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.roles: dict[str, Role] = {}
        self.children: dict[str, Child] = {}
        # For roles whose process died: how often in a row it failed to start, and when it restarts.
        self.failures: dict[str, int] = {}
        self.due: dict[str, float] = {}
        # While web processes are replaced: the roles that are left, and the old processes.
        self.rolling: list[str] = []
        self.retiring: list[Child] = []
        self.announced = False
        # Process ids that couldn't be written, by the names of their files.
        self.unwritten: dict[str, int] = {}
        # Whether a person waits for the end, so that web processes stop without giving notice.
        self.hasty = True
        # The sockets of processes that answer requests. New processes of a role get the same socket.
        self.listeners: list[socket.socket] = []

    def add(self, role: Role) -> Child:
        """Start a process in a new role, and replace it from now on when it dies."""
        self.roles[role.name] = role
        return self.fill(role.name)

    def fill(self, name: str) -> Child:
        role = self.roles[name]
        child = self.children[name] = Child(role, *role.start())
        self.write_pid(name, child.process.pid)
        return child

    def write_pid(self, name: str, pid: int) -> None:
        """Write a pid file; on a full disk, again later: processes are kept alive all the same."""
        try:
            processes.write_pid(self.run_dir, name, pid)
            self.unwritten.pop(name, None)
        except OSError as error:
            self.unwritten[name] = pid
            say(f"The process id of {name} can't be written ({error.strerror}).")

    def watch(self, announcement: str) -> None:
        """Until a stop signal: replace processes that died, and replace web processes one by one on SIGHUP."""
        while True:
            info = signal.sigtimedwait(SIGNALS, self.pause())
            if info and info.si_signo in STOPPING:
                self.hasty = info.si_signo == signal.SIGINT
                return
            if info and info.si_signo == signal.SIGHUP:
                if terminal_is_gone():
                    return
                self.rolling = self.web_roles()
                say("Replacing the web processes, one by one." if self.rolling else "No web process runs here.")
            self.replace_the_dead()
            self.roll()
            if not self.announced and self.is_up():
                self.announced = True
                say(announcement)

    def pause(self) -> float:
        """Seconds until the next check (the end of a child wakes the supervisor earlier)."""
        if not self.announced or self.rolling:
            return 0.05
        return max(0.01, min([5.0, *(due - time.monotonic() for due in self.due.values())]))

    def is_up(self) -> bool:
        """Whether all web processes are ready; without any, whether every process has run for some seconds."""
        awaited = self.web_roles() or list(self.roles)
        return all(name in self.children and self.children[name].is_ready() for name in awaited)

    def web_roles(self) -> list[str]:
        return [name for name in self.roles if name.startswith(WEB)]

    def web(self) -> list[Child]:
        return [child for name, child in self.children.items() if name.startswith(WEB)]

    def replace_the_dead(self) -> None:
        for child in [child for child in self.retiring if not child.is_alive()]:
            self.retiring.remove(child)
            self.unwritten.pop(name_of_old(child), None)
            (self.run_dir / f"{name_of_old(child)}.pid").unlink(missing_ok=True)
        for name, child in list(self.children.items()):
            if not child.is_alive():
                self.note_death(name, child)
        for name, pid in list(self.unwritten.items()):
            self.write_pid(name, pid)
        now = time.monotonic()
        for name in [name for name, due in self.due.items() if due <= now]:
            del self.due[name]
            self.fill(name)

    def note_death(self, name: str, child: Child) -> None:
        """Schedule the replacement: at once if the process had been ready, with growing delays if it fails to start."""
        failures = 0 if child.is_ready() else self.failures.get(name, 0) + 1
        self.failures[name] = failures
        delay = min(30.0, 0.5 * 2**failures) if failures else 0.0
        self.due[name] = time.monotonic() + delay
        del self.children[name]
        child.close()
        when = f"in {delay:.0f} s" if delay else "now"
        say(f"{name} ended ({ending(child.process.returncode)}); it restarts {when}.")

    def roll(self) -> None:
        """Start a new process in one web role after the other. The old process stops when the new one is ready."""
        if not self.rolling:
            return
        name = self.rolling[0]
        child = self.children.get(name)
        predecessor = next((old for old in self.retiring if old.role.name == name and not retired(old)), None)
        if predecessor is None and child is not None:
            self.retiring.append(child)
            self.write_pid(name_of_old(child), child.process.pid)
            self.fill(name)
        elif predecessor is not None and child is not None and child.is_ready():
            predecessor.close()
            predecessor.process.terminate()
            predecessor.started = -1
            self.rolling.pop(0)

    def stop(self) -> None:
        """Stop web processes first, then worker, beat and PostgreSQL. No process is left running."""
        groups = [
            [*self.web(), *self.retiring],
            *([self.children[n]] for n in ("worker", "beat") if n in self.children),
        ]
        if "postgres" in self.children:
            groups.append([self.children["postgres"]])
        begun, hurried = time.monotonic(), False
        for group in groups:
            hurried = self.stop_group(group, begun, hurried)
        for file in self.run_dir.glob("*.pid"):
            file.unlink(missing_ok=True)

    def stop_group(self, group: list[Child], begun: float, hurried: bool) -> bool:
        """Stop these processes together. Returns whether a second stop signal has arrived by now."""
        alive = [child for child in group if child.is_alive()]
        for child in alive:
            child.process.send_signal((self.hasty and child.role.hasty_signal) or child.role.stop_signal)
        patience = max((child.role.patience for child in group), default=0.0)
        deadline = time.monotonic() + (HURRIED_SECONDS if hurried else patience)
        while alive := [child for child in alive if child.is_alive()]:
            info = signal.sigtimedwait(SIGNALS, 0.2)
            again = info is not None and info.si_signo in STOPPING and time.monotonic() - begun > SAME_SIGNAL_SECONDS
            if again and not hurried:
                say("Stopping at once: open calls are cut off.")
                hurried = True
                deadline = time.monotonic() + HURRIED_SECONDS
                for child in alive:
                    child.process.send_signal(child.role.stop_signal)
            if time.monotonic() > deadline:
                for child in alive:
                    child.process.send_signal(child.role.last_signal)
                deadline = time.monotonic() + HURRIED_SECONDS
        return hurried


def name_of_old(child: Child) -> str:
    """The name of an old process's pid file. The new one has the role's."""
    return f"{child.role.name}-old-{child.process.pid}"


def retired(child: Child) -> bool:
    return child.started < 0


def ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def terminal_is_gone() -> bool:
    """Whether SIGHUP came from a closed terminal; then the gateway stops."""
    if not HAD_TERMINAL:
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return True
    return False


BROKER_FOLDERS = ("broker/queue", "broker/processed", "broker/control")


def make_folders(var_dir: Path) -> Path:
    """Create the data folder, for its owner only, with everything that processes expect in it. Returns the folder of
    pid files.

    Raises:
        CannotStart: the folder can't be written.
    """
    try:
        var_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if var_dir.stat().st_uid == os.geteuid():
            var_dir.chmod(0o700)
        for name in ("run", "log", "secrets", "spool", "static", "broker", "audit", *BROKER_FOLDERS):
            (var_dir / name).mkdir(mode=0o700, exist_ok=True)
        probe = var_dir / "run" / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CannotStart(f"The folder {var_dir} can't be written: {error.strerror}.") from None
    return var_dir / "run"


@contextlib.contextmanager
def only_one(run_dir: Path) -> Iterator[None]:
    """Hold the folder's lock until this process ends, however it ends.

    Raises:
        CannotStart: another process holds it.
    """
    with (run_dir / "supervisor.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(f"The gateway is already running in this folder{known_pid(lock)}.") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def known_pid(lock: TextIO) -> str:
    lock.seek(0)
    pid = lock.read().strip()
    return f" (process {pid})" if pid else ""


def end_orphans(run_dir: Path) -> None:
    """End the processes that a killed run left. They got a stop signal when it died. They have some seconds to end
    their calls; then calls are cut off, and then processes are killed. PostgreSQL, which they write to, stops last.
    """
    found = processes.orphans(run_dir)
    if found:
        say(f"Ending processes that an earlier run left when it was killed: {', '.join(found)}.")
    postgres = found.pop("postgres", None)
    processes.end_orphans(list(found.values()), run_dir, ORPHAN_STEPS)
    if postgres:
        processes.end_orphans([postgres], run_dir, [(signal.SIGINT, ORPHAN_SECONDS), (signal.SIGQUIT, ORPHAN_SECONDS)])


def listener_of(settings: Configuration) -> socket.socket | None:
    """The listening socket, which every web process inherits; None if no web process runs.

    Raises:
        CannotStart: the address can't be used.
    """
    return listen(settings.host, settings.port) if settings.serves_web else None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        CannotStart: the address can't be used.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror:
        raise CannotStart(f"HOST: {host} is not an address of this machine.") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"Port {port} on {host} is in use; choose another one: make run PORT={port + 1}"
            ) from None
        raise CannotStart(f"Can't listen on {host}, port {port}: {error.strerror}.") from None
    return listener


def start_postgres(supervisor: Supervisor, var_dir: Path) -> str:
    """Start the embedded server, and write its URL to the file that every command reads. Returns the URL."""
    server = prepared(var_dir, say)
    child = supervisor.add(roles.postgres_role(server, var_dir))
    embedded_postgres.wait_until_ready(server, child.process, var_dir / "log" / "postgres.log")
    file = var_dir / database.URL_FILE
    file.write_text(server.url + "\n")
    return server.url


def set_up(place: Place) -> None:
    """Apply migrations, collect static files and, on an empty database, create the first objects. A separate process
    does it, so that this one stays small.

    Raises:
        SystemExit: it failed, and has printed the reason.
    """
    command = [str(place.python), "-m", "gateway_project.first_run"]
    process = processes.spawn(command, user=place.user, environment=place.environment, cwd=place.code)
    try:
        if code := process.wait():
            sys.exit(2 if code == 2 else 1)
    finally:
        if process.poll() is None:
            processes.end(process, signal.SIGTERM, patience=5)


def run(settings: Configuration) -> None:
    """Run everything until a stop signal.

    Raises:
        CannotStart: the message has the reason in one line.
    """
    var_dir = settings.var_dir.resolve()
    run_dir = make_folders(var_dir)
    os.environ[processes.MARK] = os.fspath(run_dir)
    with only_one(run_dir):
        end_orphans(run_dir)
        listener = listener_of(settings)
        with listener or contextlib.nullcontext():
            processes.raise_file_limit()
            supervise(settings, var_dir, listener)


def supervise(settings: Configuration, var_dir: Path, listener: socket.socket | None) -> None:
    supervisor = Supervisor(var_dir / "run")
    try:
        place = unprivileged.place(settings, var_dir, say)
        if settings.database_url:
            (var_dir / database.URL_FILE).unlink(missing_ok=True)
        else:
            url = start_postgres(supervisor, var_dir)
            if place.user:
                place = replace(place, environment={**place.environment, "DATABASE_URL": url})
        set_up(place)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        start_roles(supervisor, settings, listener, place)
        supervisor.watch(announcement(settings))
        say("Stopping once open calls have ended. Stop it again to cut them off.")
    except KeyboardInterrupt:
        say("Stopping.")
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for each in supervisor.listeners:
            each.close()
        supervisor.stop()
    say("Stopped.")


def start_roles(supervisor: Supervisor, settings: Configuration, listener: socket.socket | None, place: Place) -> None:
    """Start the processes of the deployment's roles."""
    if listener:
        supervisor.listeners.append(listener)
        pages_elsewhere = {}
        if "admin" not in settings.roles:
            pages_elsewhere = {page_socket.NO_PAGES: "1"}
        if settings.has_page_process:
            pages = page_socket.listen(supervisor.run_dir, place)
            supervisor.listeners.append(pages)
            supervisor.add(roles.page_role(settings, pages, place))
            pages_elsewhere = {page_socket.PATH: str(pages.getsockname())}
        for number in range(1, settings.web_processes + 1):
            supervisor.add(roles.web_role(f"web-{number}", settings, listener, place, pages_elsewhere))
    if "worker" in settings.roles:
        supervisor.add(roles.worker_role(place))
    if "beat" in settings.roles:
        supervisor.add(roles.beat_role(supervisor.run_dir, place))


def announcement(settings: Configuration) -> str:
    """The line that is printed once everything runs."""
    if settings.serves_web:
        return f"The gateway listens on {address_of(settings)} (Ctrl-C stops it)."
    return f"The gateway runs as {' and '.join(settings.roles)} and doesn't listen (Ctrl-C stops it)."


def address_of(settings: Configuration) -> str:
    """The URL of the gateway on this machine."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104
    host = everywhere.get(settings.host, f"[{settings.host}]" if ":" in settings.host else settings.host)
    return f"http://{host}:{settings.port}"


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = configuration()
        if line := env_file.unknown_names():
            print(line, file=sys.stderr)
        run(settings)
    except (CannotStart, WrongConfiguration) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
