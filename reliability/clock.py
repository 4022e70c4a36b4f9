"""Clocks that can be stepped for one process: a library of ours, preloaded, adds the seconds in a file.

The machine's clock stays as it is, and so does the monotonic clock, as when an administrator sets the time.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

PRELOAD = Path(__file__).with_name("preload")
# What the library reads: 8 bytes, in this machine's order.
FORM = struct.Struct("=q")


class NoFakeClock(Exception):
    """There is no C compiler. The message says how to install one."""


def check() -> None:
    """Check that the library can be built.

    Raises:
        NoFakeClock: there is no C compiler.
    """
    if shutil.which("cc") is None:
        raise NoFakeClock("a C compiler is missing (Debian: apt-get install gcc libc6-dev)")


def library(folder: Path) -> str:
    """Build the library in a folder that all users can read, if it isn't there. Returns its path.

    Raises:
        NoFakeClock: there is no C compiler.
    """
    check()
    made = folder / "clock.so"
    if not made.exists():
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", made, PRELOAD / "clock.c"], check=True)
        made.chmod(0o755)
    return str(made)


def step(file: Path, seconds: int) -> None:
    """Let the clock that this file controls go ahead by these seconds."""
    with file.open("r+b", buffering=0) as clock:
        clock.write(FORM.pack(seconds))


def variables(file: Path) -> dict[str, str]:
    """The environment of a program that preloads `library()` and whose clock this file controls."""
    file.write_bytes(FORM.pack(0))
    file.chmod(0o644)
    return {"RELIABILITY_CLOCK": str(file)}


def variables_of_web(folder: Path, library: str) -> dict[str, str]:
    """The environment of a supervisor each of whose web processes has a clock of its own: `FOLDER/PID` controls it
    (preload/sitecustomize.py)."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o1777)
    return {"PYTHONPATH": str(PRELOAD), "RELIABILITY_CLOCKS": str(folder), "RELIABILITY_PRELOAD": library}
