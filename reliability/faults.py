"""`make faults`: break one part of a deployment after the other under load, and judge what is left.

It starts a PostgreSQL, a Redis, a gateway with four web processes, worker and beat, and a fake provider at an address
of its own, all of them in a temporary folder and in namespaces that end with it. For each fault, clients make calls
at a steady rate (JSON and streams by turns): two seconds in peace, then the fault lasts for a third of the time, and
the rest is for recovery. Then it compares what the clients saw, what the provider counted, and the ledger. At the end
it prints a table; its status is 1 if a promise was broken. It needs root, and the Debian packages redis-server,
a C compiler, iptables and iproute2. The machine's own clock, network and services stay as they are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway_project.embedded_postgres import CannotStart
from reliability import clock, judge, network, page
from reliability.deployment import LEASE
from reliability.judge import Verdict
from reliability.load import JSON, STREAM, Load, answers
from reliability.network import CannotRun
from reliability.program import DoesNotAnswer, within
from reliability.scenes import FAULTS, Fault, spooled, wait
from reliability.stage import DATABASE, WEB, Stage, running

# Peace before each fault.
PEACE_SECONDS = 2.0
# How long everything may take to run again, and holds of dead processes to be reaped.
PATIENCE = 60.0
REAPED_WITHIN = 4 * LEASE + 15
FIRST_PORT = 22100


@dataclass(frozen=True)
class Result:
    """A fault, and what it has shown."""

    fault: Fault
    verdict: Verdict


def suffer(fault: Fault, number: int, seconds: float, rate: float, stage: Stage) -> Verdict:
    """Let a fault happen under load, and judge it."""
    key, books = stage.key, stage.books
    prefix = f"f{number}{os.getpid() % 1000}"
    load = Load(stage.gateway.folder, [stage.gateway.url], key, prefix, rate=rate, kinds=[JSON, STREAM])
    faults, since = [], time.monotonic()
    load.start()
    try:
        within(30, lambda: len(load.calls()) > 3)
        since = wait(PEACE_SECONDS)
        fault.begins(stage)
        time.sleep(max(0.0, since + seconds / 3 - time.monotonic()))
        if fault.ends.__name__ != "nothing":
            since = time.monotonic()
        fault.ends(stage)
        if not stage.gateway.recovers(PATIENCE):
            faults.append(f"not everything runs again within {PATIENCE:.0f} s: {sorted(stage.gateway.pids())}")
        time.sleep(max(2.0, since + seconds * 2 / 3 - time.monotonic()))
    except Exception as error:  # the other faults are tried even if this one can't be
        faults.append(f"the fault itself failed: {type(error).__name__}: {str(error)[:300]}")
    finally:
        calls = load.finish()
    if not within(REAPED_WITHIN, lambda: books.holds() == 0):
        faults.append(f"{books.holds()} holds are left")
    rows = books.rows(prefix)
    upstream = {name: count for name, count in stage.provider.calls().items() if name.startswith(f"{prefix}-")}
    faults += judge.compare(calls, upstream, rows, killed=fault.kills, allowed=fault.allowed)
    faults += judge.balance(books.counters())
    verified = stage.gateway.manage("verify_ledger")
    if verified.returncode:
        faults.append(f"verify_ledger: {(verified.stdout + verified.stderr).strip()[-300:]}")
    if waiting := spooled(stage.gateway.var / "spool"):
        faults.append(f"settlements are left in the spool: {', '.join(waiting)}")
    recovered = judge.recovery(calls, since)
    if recovered is None:
        faults.append("no call was answered afterwards")
    found_rows = {row.id for row in rows}
    return Verdict(
        len(calls),
        answers(calls),
        sum(upstream.values()),
        len(rows),
        sum(row.status == judge.INTERRUPTED for row in rows),
        len(found_rows - set(upstream)),
        books.holds(),
        recovered,
        faults,
    )


def chosen(names: str) -> list[Fault]:
    """The faults of these names; without names, all of them.

    Raises:
        argparse.ArgumentTypeError: there is no fault of that name.
    """
    known = {fault.name: fault for fault in FAULTS}
    wanted = [name for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in known]:
        raise argparse.ArgumentTypeError(f"there is no fault {unknown[0]}; there are {', '.join(known)}")
    return [known[name] for name in wanted] or list(FAULTS)


def go_through(faults: Sequence[Fault], seconds: float, rate: float, port: int, logs: Path | None) -> list[Result]:
    """Let these faults happen, one after the other."""
    results = list[Result]()
    for clocks in ("", WEB, DATABASE):
        if some := [fault for fault in faults if fault.clocks == clocks]:
            say(f"Starting PostgreSQL, Redis, the provider and the gateway; fake clock: {clocks or 'none'} …")
            with running(port, clocks=clocks) as stage:
                for fault in some:
                    say(f"{len(results) + 1}/{len(faults)} {fault.name}: {fault.what} …")
                    result = Result(fault, suffer(fault, len(results) + 1, seconds, rate, stage))
                    results.append(result)
                    tell(result)
                    if logs:
                        keep_logs(stage.gateway.folder, logs)
                    if not stage.gateway.program.is_alive():
                        say("    The gateway is gone: starting it again.")
                        stage.gateway.start()
    return results


def tell(result: Result) -> None:
    """Print a result while the other faults are tried."""
    verdict = result.verdict
    say(f"    {page.answers_cell(verdict)}; recovered after {page.seconds_cell(verdict.recovery)}")
    for broken in verdict.faults:
        say(f"    BROKEN: {broken}")


def keep_logs(place: Path, to: Path) -> None:
    """Copy the logs of everything there."""
    to.mkdir(parents=True, exist_ok=True)
    for log in [*place.glob("*.log"), *place.glob("*.jsonl"), *place.glob("*.seen")]:
        shutil.copy(log, to)


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}", flush=True)


def run() -> int:
    parser = argparse.ArgumentParser(
        prog="make faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="of load for each fault; default: 60")
    parser.add_argument("--rate", type=float, default=20, metavar="N", help="calls a second; default: 20")
    parser.add_argument(
        "--only", type=chosen, default="", metavar="NAME,…", help=f"some of {', '.join(f.name for f in FAULTS)}"
    )
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="put the results into this page's table; other faults keep theirs"
    )
    parser.add_argument("--port", type=int, default=FIRST_PORT, help=f"the first of four; default: {FIRST_PORT}")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep the logs of all processes there")
    options = parser.parse_args()
    network.apart()
    clock.check()
    results = go_through(options.only, options.seconds, options.rate, options.port, options.logs)
    verdicts = {each.fault.name: each.verdict for each in results}
    measured = page.measured(f"{options.seconds:g} s, {options.rate:g} calls a second")
    print(f"\n{page.of_faults(verdicts, measured)}\n")
    if options.write:
        _, before, _ = page.parts(options.write, "faults")
        names = [fault.name for fault in FAULTS]
        page.write(options.write, "faults", page.of_faults(verdicts, measured, names, before))
    broken = [f"{each.fault.name}: {fault}" for each in results for fault in each.verdict.faults]
    print("\n".join(["Promises that were broken:", *broken]) if broken else "No promise was broken.")
    return 1 if broken else 0


def main() -> int:
    try:
        return run()
    except (CannotRun, CannotStart, clock.NoFakeClock, DoesNotAnswer) as error:
        print(f"make faults: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
