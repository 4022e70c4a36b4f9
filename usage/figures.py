"""What a process counts of its own work for `GET /metrics`: plain additions, without locks, on its one event loop.
Everything that all processes share is read from the database (usage/metrics.py).

`share` writes the figures of a process to a file once a second, so that whichever process is scraped answers for all
processes of its machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

# Upper bounds of the classes of histograms: seconds, and members of a group.
SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
# Series of one counter. A provider chooses its types of errors: beyond this, they are counted as `other`.
MOST_SERIES = 200
# Seconds between two measurements of the loop's delay, and between two files; and the age of a file that no living
# process writes any more.
STEP = 0.1
STEPS = 10
STALE = 15.0
PAGE = os.sysconf("SC_PAGE_SIZE")


class Histogram:
    """Counts of values by class, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Ended(Protocol):
    """What is counted of a settlement."""

    provider: str
    status: str
    error_type: str
    duration_ms: int
    time_to_first_byte_ms: int | None


class Grouped(Protocol):
    """What is counted of a group of the writer."""

    settlements: list[Any]
    releases: list[Any]
    admissions: list[Any]


class Figures:
    """The figures of one process since it began."""

    def __init__(self) -> None:
        self.calls: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self.errors: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.refusals: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.overhead = Histogram(SHORT)
        self.first_byte = Histogram(LONG)
        self.duration = Histogram(LONG)
        self.between_events = Histogram(LONG)
        self.group_size = Histogram(SIZES)
        self.group_wait = Histogram(SHORT)
        self.loop_delay = Histogram(SHORT)
        # What is read at a scrape, as functions: a process that serves calls adds its queues.
        self.gauges: dict[str, Any] = {}

    def note_call(self, endpoint: str, end: Ended, overhead: float | None) -> None:
        """Count a settled call. `overhead`: seconds from its complete body to the first byte to a provider."""
        self.calls[endpoint, end.provider, end.status] += 1
        self.duration.observe(end.duration_ms / 1000)
        if end.time_to_first_byte_ms is not None:
            self.first_byte.observe(end.time_to_first_byte_ms / 1000)
        if overhead is not None:
            self.overhead.observe(overhead)
        if end.status != "completed":
            kind = end.status, end.error_type[:100]
            if kind not in self.errors and len(self.errors) >= MOST_SERIES:
                kind = end.status, "other"
            self.errors[kind] += 1

    def note_group(self, group: Grouped) -> None:
        """Count a group that the writer has written, and how long its admissions have waited."""
        self.group_size.observe(len(group.settlements) + len(group.releases) + len(group.admissions))
        now = time.monotonic()
        for waiting in group.admissions:
            self.group_wait.observe(now - waiting.since)

    def snapshot(self, role: str) -> dict[str, Any]:
        """All figures, as JSON can have them: `counters` by name with their labels, `histograms`, `gauges`."""
        gauges = {
            "gateway_memory_bytes": resident(),
            "gateway_open_files": len(os.listdir("/proc/self/fd")),
            "gateway_cpu_seconds_total": round(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), 3),
            **{name: read() for name, read in self.gauges.items()},
        }
        return {
            "at": time.time(),
            "process": f"{role}-{os.getpid()}",
            "gauges": gauges,
            "counters": {
                "gateway_calls_total": series(("endpoint", "provider", "status"), self.calls),
                "gateway_errors_total": series(("status", "type"), self.errors),
                "gateway_refusals_total": series(("reason", "http_status"), self.refusals),
            },
            "histograms": {
                "gateway_overhead_seconds": cells(self.overhead),
                "gateway_time_to_first_byte_seconds": cells(self.first_byte),
                "gateway_call_seconds": cells(self.duration),
                "gateway_between_events_seconds": cells(self.between_events),
                "gateway_writer_group_size": cells(self.group_size),
                "gateway_writer_wait_seconds": cells(self.group_wait),
                "gateway_loop_delay_seconds": cells(self.loop_delay),
            },
        }


# This process's.
HERE = Figures()


def series(names: tuple[str, ...], counts: dict[Any, int]) -> list[tuple[dict[str, str], int]]:
    """A counter's series: labels and value."""
    return [(dict(zip(names, map(str, labels), strict=True)), value) for labels, value in counts.items()]


def cells(histogram: Histogram) -> tuple[tuple[float, ...], list[int], float]:
    """A histogram's bounds, counts and sum."""
    return histogram.bounds, histogram.counts, histogram.total


def resident() -> int:
    """The bytes of memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def own_file(folder: Path) -> Path:
    """The file of this process. Machines may share the folder, and each has process ids of its own."""
    return folder / f"{socket.gethostname()}-{os.getpid()}.json"


def write(folder: Path, role: str) -> None:
    """Write this process's figures. A disk that is full costs only them."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        path = own_file(folder)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(HERE.snapshot(role)))
        fresh.replace(path)


def read(folder: Path, role: str) -> Iterator[dict[str, Any]]:
    """The figures of this process, and of the others of this machine that live."""
    yield HERE.snapshot(role)
    mine, now = own_file(folder), time.time()
    for path in sorted(folder.glob(f"{socket.gethostname()}-*.json")):
        if path == mine:
            continue
        with suppress(OSError, ValueError):  # it has just ended
            found = json.loads(path.read_text())
            if now - found["at"] < STALE:
                yield found
            elif now - found["at"] > STALE * 4:
                path.unlink()


async def share(folder: Path, role: str) -> None:
    """Measure the loop's delay ten times a second, and write the figures once a second, until cancelled."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            for _ in range(STEPS):
                began = time.monotonic()
                await asyncio.sleep(STEP)
                HERE.loop_delay.observe(max(0.0, time.monotonic() - began - STEP))
            await loop.run_in_executor(None, write, folder, role)
    finally:
        with suppress(OSError):
            own_file(folder).unlink(missing_ok=True)


def labelled(labels: dict[str, Any] | Iterable[tuple[str, Any]]) -> str:
    """Labels in Prometheus' text format; empty without any."""
    written = [f'{name}="{escaped(str(value))}"' for name, value in dict(labels).items()]
    return "{" + ",".join(written) + "}" if written else ""


def escaped(text: str) -> str:
    """A label's value: https://prometheus.io/docs/instrumenting/exposition_formats/#comments-help-text-and-type-information"""
    clean = "".join(sign if sign.isprintable() else "\ufffd" for sign in text[:200])
    return clean.replace("\\", "\\\\").replace('"', '\\"')
