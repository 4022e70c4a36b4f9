"""Clocks that can be stepped for one process: libfaketime, preloaded, reads an offset from a file.

The machine's clock stays as it is, and so does the monotonic clock, as when an administrator sets the time.
"""

from __future__ import annotations

import glob
from pathlib import Path

PRELOAD = Path(__file__).with_name("preload")
# libfaketime reads the file at most once in this time.
SECONDS_TO_NOTICE = 1


class NoFakeClock(Exception):
    """libfaketime isn't installed. The message says how to install it."""


def library() -> str:
    """The path of libfaketime for programs with threads.

    Raises:
        NoFakeClock: it isn't installed.
    """
    found = sorted(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise NoFakeClock("libfaketime is missing (Debian: apt-get install libfaketime)")
    return found[0]


def step(file: Path, seconds: int) -> None:
    """Let the clock that this file controls go ahead by these seconds."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(f"{seconds:+d}\n")
    part.chmod(0o644)
    part.replace(file)


def variables(file: Path) -> dict[str, str]:
    """The environment of a program that preloads `library()` and whose clock this file controls."""
    step(file, 0)
    return common() | {"FAKETIME_TIMESTAMP_FILE": str(file)}


def variables_of_web(folder: Path) -> dict[str, str]:
    """The environment of a supervisor each of whose web processes has a clock of its own: `FOLDER/PID` controls it
    (preload/sitecustomize.py)."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o1777)
    return common() | {
        "PYTHONPATH": str(PRELOAD),
        "RELIABILITY_CLOCKS": str(folder),
        "RELIABILITY_PRELOAD": library(),
    }


def common() -> dict[str, str]:
    return {"FAKETIME_CACHE_DURATION": str(SECONDS_TO_NOTICE), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
