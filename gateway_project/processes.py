"""Child processes of the supervisor: started so that none outlives it unnoticed, and known again by a later run."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# In the environment of every child: which run's folder it belongs to. A process id alone may be somebody else's by now.
MARK = "GATEWAY_RUN_DIR"

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class User:
    """A user of the system that a child runs as."""

    name: str
    uid: int
    gid: int


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
    """Start a child in a session of its own (a Ctrl-C is the supervisor's to hand on), without input. It gets the
    signal `dies_with` when its parent ends; `output` is the file that its output goes to, else the screen."""
    parent = os.getpid()

    def bind_to_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        _libc.prctl(_PR_SET_PDEATHSIG, int(dies_with), 0, 0, 0)
        # No program that it starts gives it more rights than it has.
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


def end(process: subprocess.Popen[bytes], how: signal.Signals, patience: float) -> None:
    """Stop a child with a signal; kill it if it is still there after so many seconds."""
    process.send_signal(how)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def is_from(pid: int, run_dir: Path) -> bool:
    """Whether this process is alive and was started as a child for this run folder."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARK}={run_dir}".encode() in environment.split(b"\0")


def write_pid(run_dir: Path, name: str, pid: int) -> None:
    """Note a child's process id in `NAME.pid`, whole or not at all."""
    draft = run_dir / f".{name}.pid"
    draft.write_text(f"{pid}\n")
    draft.replace(run_dir / f"{name}.pid")


def orphans(run_dir: Path) -> dict[str, int]:
    """Children of an earlier run that are still alive: process ids by name. Stale pid files are removed."""
    found = {}
    for file in sorted(run_dir.glob("*.pid")):
        text = file.read_text().strip()
        if text.isdigit() and is_from(int(text), run_dir):
            found[file.stem] = int(text)
        else:
            file.unlink(missing_ok=True)
    return found


def end_orphans(pids: Sequence[int], run_dir: Path, steps: Sequence[tuple[signal.Signals | None, float]]) -> None:
    """Send those that are still there one signal (or none) after the other, each with seconds to obey it."""
    for how, patience in steps:
        deadline = time.monotonic() + patience
        for pid in pids:
            if how and is_from(pid, run_dir):
                os.kill(pid, how)
        while any(is_from(pid, run_dir) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)
