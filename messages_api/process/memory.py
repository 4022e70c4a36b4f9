"""Gives memory back to the system after many long bodies.

The C library keeps what was freed between two pieces that are still in use: after bodies of 100 kB from 256 callers, a
process stays tens of megabytes larger than before. Its own threshold (M_TRIM_THRESHOLD) only sees the heap's end.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
STATM = Path("/proc/self/statm")
# How often this looks (seconds), and the growth (bytes) from which it acts: a trim takes milliseconds.
PAUSE = 10.0
GROWTH = 8 << 20


class Trimmer:
    """Trims the heap of this process whenever it has grown since it was trimmed last."""

    def __init__(self) -> None:
        self.trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self.next = 0.0
        self.least = 0

    async def step(self) -> None:
        """One step of the periodic work. It does nothing where the C library has no such function."""
        if self.trim is None or time.monotonic() < self.next:
            return
        self.next = time.monotonic() + PAUSE
        if resident() > self.least + GROWTH:
            self.trim(0)
            self.least = resident()


def resident() -> int:
    """The bytes of this process that are in memory."""
    return int(STATM.read_text().split()[1]) * PAGE
