"""What `make run` runs: it starts every process of the gateway, replaces those that die, and stops them in order.

PostgreSQL (embedded) ▸ set-up ▸ web processes, worker and beat; stopped as web ▸ worker ▸ beat ▸ PostgreSQL.
SIGINT or SIGTERM: stop, and let open calls end; a second one hurries. SIGHUP: replace the web processes one by one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from gateway_project import database, embedded_postgres, env_file, processes, roles, unprivileged
from gateway_project.configuration import Configuration, WrongConfiguration, configuration
from gateway_project.embedded_postgres import CannotStart
from gateway_project.roles import Child, Role
from gateway_project.unprivileged import Place
from gateway_project.web import BACKLOG

SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
STOPPING = {signal.SIGINT, signal.SIGTERM}

# A stop signal often comes twice at once: from `make`, and to the whole group.
SAME_SIGNAL_SECONDS = 1.0
HURRIED_SECONDS = 5.0
ORPHAN_SECONDS = 10.0
ORPHAN_STEPS = [(None, ORPHAN_SECONDS), (signal.SIGTERM, HURRIED_SECONDS), (signal.SIGKILL, HURRIED_SECONDS)]

HAD_TERMINAL = sys.stdin is not None and sys.stdin.isatty()


def say(line: str) -> None:
    """One line on the screen; a terminal that is gone stops nothing."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


class Supervisor:
    """Keeps one process in every role."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.roles: dict[str, Role] = {}
        self.children: dict[str, Child] = {}
        # Of roles whose process died: how often in a row it failed to start, and when it is started again.
        self.failures: dict[str, int] = {}
        self.due: dict[str, float] = {}
        # When asked to replace the web processes: roles still to do, and processes that are replaced.
        self.rolling: list[str] = []
        self.retiring: list[Child] = []
        self.announced = False

    def add(self, role: Role) -> Child:
        """Start a process in a new role, and keep it filled from now on."""
        self.roles[role.name] = role
        return self.fill(role.name)

    def fill(self, name: str) -> Child:
        role = self.roles[name]
        child = self.children[name] = Child(role, *role.start())
        processes.write_pid(self.run_dir, name, child.process.pid)
        return child

    def watch(self, announcement: str) -> None:
        """Until a stop signal: replace who died, roll when asked to."""
        while True:
            info = signal.sigtimedwait(SIGNALS, self.pause())
            if info and info.si_signo in STOPPING:
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
        """Seconds until something is to be looked at again (a child's end wakes us anyway)."""
        if not self.announced or self.rolling:
            return 0.05
        return max(0.01, min([5.0, *(due - time.monotonic() for due in self.due.values())]))

    def is_up(self) -> bool:
        """Whether all web processes answer; without any, whether every process has lived for some seconds."""
        awaited = self.web_roles() or list(self.roles)
        return all(name in self.children and self.children[name].is_ready() for name in awaited)

    def web_roles(self) -> list[str]:
        return [name for name in self.roles if name.startswith("web-")]

    def web(self) -> list[Child]:
        return [child for name, child in self.children.items() if name.startswith("web-")]

    def replace_the_dead(self) -> None:
        for child in [child for child in self.retiring if not child.is_alive()]:
            self.retiring.remove(child)
            pid_file_of_old(self.run_dir, child).unlink(missing_ok=True)
        for name, child in list(self.children.items()):
            if not child.is_alive():
                self.note_death(name, child)
        now = time.monotonic()
        for name in [name for name, due in self.due.items() if due <= now]:
            del self.due[name]
            self.fill(name)

    def note_death(self, name: str, child: Child) -> None:
        """One that had been ready is replaced at once, one that fails to start more and more slowly."""
        failures = 0 if child.is_ready() else self.failures.get(name, 0) + 1
        self.failures[name] = failures
        delay = min(30.0, 0.5 * 2**failures) if failures else 0.0
        self.due[name] = time.monotonic() + delay
        del self.children[name]
        child.close()
        when = f"in {delay:.0f} s" if delay else "now"
        say(f"{name} ended ({ending(child.process.returncode)}); it is started again {when}.")

    def roll(self) -> None:
        """Give one web role after the other a new process; the old one retires when the new one is ready."""
        if not self.rolling:
            return
        name = self.rolling[0]
        child = self.children.get(name)
        predecessor = next((old for old in self.retiring if old.role.name == name and not retired(old)), None)
        if predecessor is None and child is not None:
            self.retiring.append(child)
            pid_file_of_old(self.run_dir, child).write_text(f"{child.process.pid}\n")
            self.fill(name)
        elif predecessor is not None and child is not None and child.is_ready():
            predecessor.close()
            predecessor.process.terminate()
            predecessor.started = -1
            self.rolling.pop(0)

    def stop(self) -> None:
        """Web processes first, then worker, beat and PostgreSQL; nothing is left running."""
        groups = [
            [*self.web(), *self.retiring],
            *([self.children[n]] for n in ("worker", "beat") if n in self.children),
        ]
        if "postgres" in self.children:
            groups.append([self.children["postgres"]])
        begun = time.monotonic()
        hurried = False
        for group in groups:
            hurried = self.stop_group(group, begun, hurried)
        for file in self.run_dir.glob("*.pid"):
            file.unlink(missing_ok=True)

    def stop_group(self, group: list[Child], begun: float, hurried: bool) -> bool:
        """Stop these together; whether we were asked to hurry meanwhile (or before)."""
        alive = [child for child in group if child.is_alive()]
        for child in alive:
            child.process.send_signal(child.role.stop_signal)
        patience = max((child.role.patience for child in group), default=0.0)
        deadline = time.monotonic() + (HURRIED_SECONDS if hurried else patience)
        while alive := [child for child in alive if child.is_alive()]:
            info = signal.sigtimedwait(SIGNALS, 0.2)
            again = info is not None and info.si_signo in STOPPING and time.monotonic() - begun > SAME_SIGNAL_SECONDS
            if again and not hurried:
                say("Hurrying: open calls are cut.")
                hurried = True
                deadline = time.monotonic() + HURRIED_SECONDS
                for child in alive:
                    child.process.send_signal(child.role.stop_signal)
            if time.monotonic() > deadline:
                for child in alive:
                    child.process.send_signal(child.role.last_signal)
                deadline = time.monotonic() + HURRIED_SECONDS
        return hurried


def pid_file_of_old(run_dir: Path, child: Child) -> Path:
    """A process that retires leaves its role's own pid file to the new one."""
    return run_dir / f"{child.role.name}-old-{child.process.pid}.pid"


def retired(child: Child) -> bool:
    return child.started < 0


def ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def terminal_is_gone() -> bool:
    """A closed terminal sends SIGHUP too; then the gateway stops."""
    if not HAD_TERMINAL:
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return True
    return False


BROKER_FOLDERS = ("broker/queue", "broker/processed", "broker/control")


def make_folders(var_dir: Path) -> Path:
    """The data folder, for its owner only, and what every process expects in it; gives the folder of pid files.

    Raises:
        CannotStart: it can't be written.
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
    """Hold the folder's lock, which ends with this process however it ends.

    Raises:
        CannotStart: another one holds it.
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
    """End what a killed run left. Its processes got a signal to stop when it died: they have some seconds to end their
    calls, then calls are cut, then processes. PostgreSQL, which they write to, goes last."""
    found = processes.orphans(run_dir)
    if found:
        say(f"Ending what an earlier run left when it was killed: {', '.join(found)}.")
    postgres = found.pop("postgres", None)
    processes.end_orphans(list(found.values()), run_dir, ORPHAN_STEPS)
    if postgres:
        processes.end_orphans([postgres], run_dir, [(signal.SIGINT, ORPHAN_SECONDS), (signal.SIGQUIT, ORPHAN_SECONDS)])


def listener_of(settings: Configuration) -> socket.socket | None:
    """The one listening socket, which every web process inherits; None where no web process runs.

    Raises:
        CannotStart: the address can't be had.
    """
    return listen(settings.host, settings.port) if settings.serves_web else None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        CannotStart: the address can't be had.
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


def raise_file_limit() -> None:
    """A stream is two open files, and the usual limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def start_postgres(supervisor: Supervisor, var_dir: Path) -> str:
    """Start the embedded server, and tell every command where it is; its URL."""
    server = embedded_postgres.prepare(var_dir, say)
    child = supervisor.add(roles.postgres_role(server, var_dir))
    embedded_postgres.wait_until_ready(server, child.process, var_dir / "log" / "postgres.log")
    file = var_dir / database.URL_FILE
    file.write_text(server.url + "\n")
    return server.url


def set_up(place: Place) -> None:
    """Migrations, static files and, on an empty database, the first objects: in a process of its own, so that this
    one stays small.

    Raises:
        SystemExit: it failed, and has said why.
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
    """Everything, until a stop signal.

    Raises:
        CannotStart: with one line that says why.
    """
    var_dir = settings.var_dir.resolve()
    run_dir = make_folders(var_dir)
    os.environ[processes.MARK] = os.fspath(run_dir)
    with only_one(run_dir):
        end_orphans(run_dir)
        listener = listener_of(settings)
        with listener or contextlib.nullcontext():
            raise_file_limit()
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
        say("Stopping; open calls may end. Once more hurries.")
    except KeyboardInterrupt:
        say("Stopping.")
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        if listener:
            listener.close()
        supervisor.stop()
    say("Stopped.")


def start_roles(supervisor: Supervisor, settings: Configuration, listener: socket.socket | None, place: Place) -> None:
    """The processes of the deployment's roles."""
    if listener:
        for number in range(1, settings.web_processes + 1):
            supervisor.add(roles.web_role(number, settings, listener, place))
    if "worker" in settings.roles:
        supervisor.add(roles.worker_role(place))
    if "beat" in settings.roles:
        supervisor.add(roles.beat_role(supervisor.run_dir, place))


def announcement(settings: Configuration) -> str:
    """What is said once everything runs."""
    if settings.serves_web:
        return f"The gateway listens on {address_of(settings)} (Ctrl-C stops it)."
    return f"The gateway runs as {' and '.join(settings.roles)} and listens nowhere (Ctrl-C stops it)."


def address_of(settings: Configuration) -> str:
    """The URL under which the gateway is reached from this machine."""
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
