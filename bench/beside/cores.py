"""Who uses the processors and the memory: processes by their trees, and cores by what runs on them beside us."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """The cores of the gateway under test, of the load, and of everything else (the load's, where there are two)."""

    gateway: frozenset[int]
    load: frozenset[int]
    others: frozenset[int]

    @classmethod
    def of_this_machine(cls, gateways: int = 1) -> Cores:
        """The last cores for the gateway, the first for the load.

        Raises:
            RuntimeError: there are too few.
        """
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) <= gateways:
            raise RuntimeError(f"{gateways + 1} cores are needed, there are {len(cores)}")
        load, between, gateway = cores[:1], cores[1:-gateways], cores[-gateways:]
        return cls(frozenset(gateway), frozenset(load), frozenset(between or load))

    @property
    def pinned(self) -> frozenset[int]:
        return self.gateway | self.load


@contextlib.contextmanager
def on(cores: frozenset[int]) -> Iterator[None]:
    """Processes that start while the block runs stay on these cores, and so do their children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(*roots: int) -> set[int]:
    """These processes and everything that descends from them."""
    children: dict[int, list[int]] = {}
    for pid, fields in _all():
        children.setdefault(int(fields[1]), []).append(pid)
    found, left = set(), [pid for pid in roots if pid]
    while left:
        pid = left.pop()
        found.add(pid)
        left += [child for child in children.get(pid, ()) if child not in found]
    return found


def seconds(pids: Iterable[int]) -> float:
    """CPU seconds that processes have used, with those of their children that have ended."""
    return sum(sum(map(int, fields[11:15])) for pid in pids if (fields := _fields(pid))) / TICKS


def memory(pids: Iterable[int]) -> float:
    """MB of memory (PSS: what processes share counts once)."""
    found = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            found += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return found * 1024 / 1e6


def _fields(pid: int) -> list[str]:
    """The fields of a process's `stat` from the third on; none if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _all() -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _fields(int(name))):
            yield int(name), fields


class Strangers:
    """How much of the pinned cores processes use that are not ours.

    Ours are this process, its descendants and `also` (PostgreSQL, if it was there before us). It is what cores were
    busy with, by the kernel's own count, less what our processes used that may run on these cores only.
    """

    def __init__(self, cores: Cores, also: int = 0) -> None:
        self.cores = cores.pinned
        self.also = also

    def look(self) -> float:
        """Seconds of others until now. Only the difference between two looks means something."""
        return self._busy() - seconds(self._ours())

    def _ours(self) -> Iterator[int]:
        for pid in tree(os.getpid(), self.also):
            with contextlib.suppress(OSError):
                if os.sched_getaffinity(pid) <= self.cores:
                    yield pid

    def _busy(self) -> float:
        """Seconds in which these cores were not idle: all but idle time and waits for disks."""
        found = 0
        for line in Path("/proc/stat").read_text().splitlines():
            name, *ticks = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in self.cores:
                user, nice, system, _, _, irq, softirq, steal = map(int, ticks[:8])
                found += user + nice + system + irq + softirq + steal
        return found / TICKS
