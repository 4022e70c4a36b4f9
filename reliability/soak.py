"""`make soak`: half of what a gateway can do, for hours; does anything grow?

It measures the capacity first, in short steps. Then clients make calls at half of it: JSON, streams, bodies of 100 kB,
clients that hang up, and batches. It prints a line a minute: answers, the overhead's 99th percentile (what the client
waited, without the provider's part), memory and open files of the web processes, and holds. At the end it draws lines
through memory and overhead, after a warm-up of a fifth of the time, and looks for files and holds that are left. Its
status is 1 if memory or overhead surely grows, or anything is left. It needs root, and the Debian packages
redis-server, iptables and iproute2.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attacks.table import part
from gateway_project.embedded_postgres import CannotStart
from reliability import judge, network, page, watch
from reliability.load import BATCH, BIG, EXPECTED, HANG_UP, JSON, OK, STREAM, Call, Load
from reliability.network import CannotRun
from reliability.program import DoesNotAnswer, within
from reliability.stage import Stage, running
from reliability.trend import Trend, trend

FIRST_PORT = 22300
MIX = [JSON, STREAM, JSON, STREAM, BIG, JSON, STREAM, HANG_UP, JSON, BATCH]
# The steps in which the capacity is looked for: calls a second, each for STEP_SECONDS.
STEPS = (10, 20, 40, 80, 160, 320, 640)
STEP_SECONDS = 6.0
# A rate is within capacity while this share of its calls is answered within these seconds.
SHARE, IN_TIME = 0.99, 1.5
WARM_UP = 0.2
# What counts as growth: megabytes an hour for all web processes, and milliseconds of overhead an hour.
MEGABYTES_AN_HOUR = 2.0
MILLISECONDS_AN_HOUR = 5.0
# Open files that may be left after the end: connections to the provider that are kept for a while.
FILES_LEFT = 40


@dataclass(frozen=True)
class Minute:
    """What was measured in an interval; `at` in hours since the begin, overhead in milliseconds."""

    at: float
    calls: int
    failed: int
    overhead: float
    memory: float
    files: int
    holds: int

    def __str__(self) -> str:
        return (
            f"{self.at * 60:6.1f} min: {self.calls} calls, {self.failed} failed, overhead p99 {self.overhead:.0f} ms, "
            f"{self.memory:.1f} MB, {self.files} files, {self.holds} holds"
        )


def capacity(stage: Stage) -> float:
    """The highest of STEPS that the gateway keeps up with, in calls a second.

    Raises:
        DoesNotAnswer: it keeps up with none.
    """
    best = 0.0
    for number, rate in enumerate(STEPS):
        prefix = f"step{number}"
        load = Load(stage.gateway.folder, [stage.gateway.url], stage.key, prefix, rate=rate, kinds=[JSON, STREAM])
        load.start()
        within(30, lambda load=load: len(load.calls()) > 0)  # type: ignore[misc]
        time.sleep(STEP_SECONDS)
        calls = load.finish()
        good = sum(call.ended == OK and call.seconds < IN_TIME for call in calls)
        say(f"    {rate} calls a second: {good} of {len(calls)} answered in time")
        if good < SHARE * len(calls):
            break
        best = rate
    if not best:
        raise DoesNotAnswer(f"The gateway doesn't keep up with {STEPS[0]} calls a second")
    return best


def overhead(calls: Sequence[Call], took: dict[str, float]) -> float:
    """The 99th percentile of what clients waited without the provider's part, in milliseconds."""
    plain = [call for call in calls if call.kind in (JSON, STREAM) and call.ended == OK and call.id in took]
    return part(sorted((call.seconds - took[call.id]) * 1000 for call in plain) or [0.0], 0.99)


def soak(stage: Stage, rate: float, minutes: float, every: float) -> tuple[list[Minute], list[Call]]:
    """Make calls for these minutes, and measure every `every` seconds. Returns the measurements and all calls."""
    load = Load(stage.gateway.folder, [stage.gateway.url], stage.key, "soak", rate=rate, kinds=MIX)
    load.start()
    within(30, lambda: len(load.calls()) > 0)
    found, known, begun = list[Minute](), 0, time.monotonic()
    while time.monotonic() < begun + minutes * 60:
        time.sleep(max(0.0, begun + (len(found) + 1) * every - time.monotonic()))
        calls = load.calls()
        new, known = calls[known:], len(calls)
        had = watch.look(stage.gateway)
        failed = sum(call.failed for call in new)
        waited = overhead(new, stage.provider.seconds())
        at = (time.monotonic() - begun) / 3600
        found.append(Minute(at, len(new), failed, waited, had.memory, had.files, stage.books.holds()))
        say(str(found[-1]))
    return found, load.finish()


def judged(minutes: Sequence[Minute], before: watch.Had, after: watch.Had, holds: int) -> tuple[list[str], list[str]]:
    """What was seen, in sentences, and what was broken."""
    warm = [each for each in minutes if each.at >= WARM_UP * minutes[-1].at]
    memory = trend([(each.at, each.memory) for each in warm])
    waited = trend([(each.at, each.overhead) for each in warm])
    seen = [
        f"memory {said(memory, 'MB')} from {warm[0].memory:.1f} MB",
        f"overhead p99 {said(waited, 'ms')} from {warm[0].overhead:.0f} ms",
        f"{after.files - before.files:+d} open files after the end",
        f"{holds} holds left",
    ]
    faults = []
    if memory.rises(MEGABYTES_AN_HOUR):
        faults.append(f"memory grows: {said(memory, 'MB')}")
    if waited.rises(MILLISECONDS_AN_HOUR):
        faults.append(f"the overhead grows: {said(waited, 'ms')}")
    if after.files - before.files > FILES_LEFT:
        faults.append(f"{after.files - before.files} open files are left")
    if holds:
        faults.append(f"{holds} holds are left")
    return seen, faults


def said(found: Trend, unit: str) -> str:
    return f"{found.slope:+.2f} ± {found.error:.2f} {unit} an hour"


def look(minutes: float, every: float, port: int) -> tuple[str, list[str]]:
    """Everything; a paragraph, and what was broken."""
    say("Starting PostgreSQL, Redis, the provider and the gateway …")
    with running(port, webs=2) as stage:
        stage.gateway.recovers(60)
        most = capacity(stage)
        before = watch.look(stage.gateway)
        say(f"Half of {most:g} calls a second for {minutes:g} minutes …")
        found, calls = soak(stage, most / 2, minutes, every)
        within(60, lambda: stage.books.holds() == 0)
        # Connections that are kept alive end within this time.
        within(90, lambda: watch.look(stage.gateway).files - before.files <= FILES_LEFT)
        seen, faults = judged(found, before, watch.look(stage.gateway), stage.books.holds())
        upstream = {name: count for name, count in stage.provider.calls().items() if name.startswith("soak-")}
        batches = {call.id for call in calls if call.kind == BATCH}
        plain = [call for call in calls if call.id not in batches]
        rows = [row for row in stage.books.rows("soak") if row.id not in batches]
        counted = {name: count for name, count in upstream.items() if name not in batches}
        faults += judge.compare(plain, counted, rows, killed=False, allowed=frozenset(EXPECTED.values()))
        faults += judge.balance(stage.books.counters())
    failed = sum(call.failed for call in calls)
    how = f"{minutes:g} minutes at {most / 2:g} calls a second, half of the measured capacity"
    text = f"{page.conditions(how)}\n\n{len(calls)} calls, {failed} failed; {'; '.join(seen)}."
    return text + "".join(f"\n\n**{fault}**" for fault in faults), faults


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}", flush=True)


def run() -> int:
    parser = argparse.ArgumentParser(
        prog="make soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=120, metavar="N", help="default: 120")
    parser.add_argument("--every", type=float, default=60, metavar="SECONDS", help="between lines; default: 60")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the result into this page")
    parser.add_argument("--port", type=int, default=FIRST_PORT, help=f"the first of four; default: {FIRST_PORT}")
    options = parser.parse_args()
    if options.minutes * 60 < options.every * 6:
        parser.error("--minutes: a trend needs at least six measurements")
    network.apart()
    text, faults = look(options.minutes, options.every, options.port)
    print(f"\n{text}\n\n{'FAILED' if faults else 'PASSED'}")
    if options.write:
        page.write(options.write, "soak", text)
    return int(bool(faults))


def main() -> int:
    try:
        return run()
    except (CannotRun, CannotStart, DoesNotAnswer) as error:
        print(f"make soak: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
