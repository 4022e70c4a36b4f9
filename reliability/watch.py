"""What processes of a gateway have: memory and open files."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from attacks.measure import MEGABYTE, memory_of
from reliability.deployment import Gateway
from reliability.program import children


@dataclass(frozen=True)
class Had:
    """Megabytes that web processes and their children share with none, files in memory included; open files."""

    memory: float
    files: int


def look(gateway: Gateway) -> Had:
    """What the web processes have now."""
    pids = [pid for web in gateway.web_pids() for pid in (web, *children(web))]
    in_memory, files = dict[int, int](), 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                files += 1
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path).startswith("/memfd:"):
                        status = os.stat(entry.path)
                        in_memory[status.st_ino] = status.st_blocks * 512
    total = sum(map(memory_of, pids)) + sum(in_memory.values())
    return Had(total / MEGABYTE, files)
