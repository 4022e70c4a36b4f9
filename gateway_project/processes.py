"""Child processes of the supervisor. They end with it; if one survives, a later run recognises it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# An environment variable of every child with the run folder that it belongs to. A process id from a file isn't enough:
# the system may have given it to another process.
MARK = "GATEWAY_RUN_DIR"

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class User:
    """The system user that a child runs as."""

    name: str
    uid: int
    gid: int


def raise_file_limit() -> None:
    """Raise the limit of open files: a stream takes two, and the usual limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spawn(
    command: Sequence[str | Path],
    *,
    user: User | None = None,
    dies_with: signal.Signals = signal.SIGTERM,
    pass_fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, without input.

    A session of its own, because the supervisor handles Ctrl-C and stops the children itself.

    Args:
        dies_with: the signal that the child gets when its parent ends.
        output: the file descriptor for the child's output. None: the terminal.
    """
    parent = os.getpid()

    def bind_to_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        _libc.prctl(_PR_SET_PDEATHSIG, int(dies_with), 0, 0, 0)
        # A set-user-ID program that the child starts gets no additional rights.
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen(  # noqa: S603
        [os.fspath(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
        start_new_session=True,
        pass_fds=pass_fds,
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        preexec_fn=bind_to_parent,
    )


def stand_back(niceness: int) -> None:
    """Let other processes go first where the processors are short.

    A process that leads its session may be in a group of its own (autogroup), and Linux then compares groups: one
    counts as nice as its file says, however nice its processes are.
    """
    os.nice(niceness)
    if os.getsid(0) == os.getpid():
        # There may be no such groups, and a change may be refused for a moment after another one.
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(os.nice(0)))


def end(process: subprocess.Popen[bytes], how: signal.Signals, patience: float) -> None:
    """Stop a child with a signal; kill it if it still runs after `patience` seconds."""
    process.send_signal(how)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def is_from(pid: int, run_dir: Path) -> bool:
    """Whether this process is alive and was started for this run folder."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARK}={run_dir}".encode() in environment.split(b"\0")


def write_pid(run_dir: Path, name: str, pid: int) -> None:
    """Write a child's process id to `NAME.pid`, atomically."""
    draft = run_dir / f".{name}.pid"
    draft.write_text(f"{pid}\n")
    draft.replace(run_dir / f"{name}.pid")


def orphans(run_dir: Path) -> dict[str, int]:
    """Children of an earlier run that are still alive, as process ids by name. Stale pid files are deleted."""
    found = {}
    for file in sorted(run_dir.glob("*.pid")):
        text = file.read_text().strip()
        if text.isdigit() and is_from(int(text), run_dir):
            found[file.stem] = int(text)
        else:
            file.unlink(missing_ok=True)
    return found


def end_orphans(pids: Sequence[int], run_dir: Path, steps: Sequence[tuple[signal.Signals | None, float]]) -> None:
    """Stop processes step by step. Each step is a signal (None: just wait) and the seconds to wait after it."""
    for how, patience in steps:
        deadline = time.monotonic() + patience
        for pid in pids:
            if how and is_from(pid, run_dir):
                os.kill(pid, how)
        while any(is_from(pid, run_dir) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)
