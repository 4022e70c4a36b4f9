"""Compares Bursar with nginx, Portkey and LiteLLM: `make bench`.

It has each peer from its registry, starts Bursar as its README calls production, and pins the gateway under test to one
core, callers and a fake provider to another. Rounds alternate. It prints a table with ratios and noise, checks the
ledger, and writes the first section of bench/RESULTS.md; with --quick or --busy, the section goes to RESULTS.md in the
folder --work instead. The database is an embedded PostgreSQL, or a new one on the server of DATABASE_URL.

Its status is 1 if the ledger is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg

from bench.beside import cores, peers, results, scenarios
from bench.beside.gateway import ROOT, Bursar, Deployment, deployed
from bench.beside.ledger import verdict
from bench.beside.rounds import Rounds
from bench.beside.subject import Subject

RESULTS = ROOT / "bench" / "RESULTS.md"
KEYS = 400_000


def options() -> argparse.Namespace:
    usual = [scenario.name for scenario in scenarios.ALL if not scenario.asked]
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=_positive, default=3)
    parser.add_argument("--seconds", type=_positive, default=10, help="of each figure, after a warm-up")
    parser.add_argument("--peers", type=_names(peers.PEERS), default=list(peers.PEERS), help=", ".join(peers.PEERS))
    parser.add_argument(
        "--scenarios", type=_names(scenarios.NAMES), default=usual, help=f"{', '.join(scenarios.NAMES)} (all but keys)"
    )
    parser.add_argument("--quick", action="store_true", help="one round of 3 seconds")
    parser.add_argument("--busy", action="store_true", help="print figures of a busy machine too, each with a mark")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "var" / "bench", metavar="FOLDER", help="keeps the peers between runs"
    )
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds = 1, 3
    return given


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return int(text)


def _names(known: Mapping[str, object]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is unknown; choose from {', '.join(known)}")
        return names

    return parse


@contextlib.contextmanager
def provider(where: cores.Cores) -> Iterator[dict[str, int]]:
    """The fake provider, on the load's core; its ports by pace."""
    with cores.on(where.load):
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.beside.upstream"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    with process:
        assert process.stdin
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()


def main() -> int:
    """Compare, print and write."""
    given = options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    try:
        where = cores.Cores.of_this_machine()
    except RuntimeError as error:
        print(f"make bench: {error}", file=sys.stderr)
        return 2
    chosen = [scenarios.NAMES[name] for name in scenarios.NAMES if name in given.scenarios]
    with provider(where) as ports:
        found, missing = peers.have(given.peers, work, ports)
        for line in missing:
            print(f"Missing: {line}", flush=True)
        with deployed(where, ports) as deployment:
            return compare(given, where, chosen, found, missing, deployment, work)


def compare(
    given: argparse.Namespace,
    where: cores.Cores,
    chosen: list[scenarios.Scenario],
    found: list[Subject],
    missing: list[str],
    deployment: Deployment,
    work: Path,
) -> int:
    rounds = Rounds(where, work, deployment.postgres, given.seconds, given.busy)
    bursar = Bursar(deployment)
    subjects: list[Subject] = [bursar, *found]
    for number in range(given.rounds):
        rounds.run(number, subjects, [each for each in chosen if each.processes == 1 and not each.asked])
    calls = bursar.calls + two_processes(given, rounds, chosen, deployment)
    right, said = verdict(deployment, rounds.calls + calls)
    many_keys(given, rounds, chosen, deployment)
    table = results.Table(rounds, [subject.name for subject in subjects], chosen)
    command = shlex.join(["make", "bench", *([f"ARGS={shlex.join(sys.argv[1:])}"] if sys.argv[1:] else [])])
    versions = [subject.versions for subject in subjects]
    text = results.section(table, versions, command, missing, said)
    print("\n" + text)
    file = work / "RESULTS.md" if given.quick or given.busy else RESULTS
    results.write(file, text)
    print(f"Written: {os.path.relpath(file)}")
    return 0 if right else 1


def two_processes(
    given: argparse.Namespace, rounds: Rounds, chosen: list[scenarios.Scenario], deployment: Deployment
) -> int:
    """Measure what runs with two processes, where there are the cores; how many calls its starts made."""
    of_two = [each for each in chosen if each.processes == 2]
    if not of_two:
        return 0
    before = rounds.where
    try:
        rounds.where = cores.Cores.of_this_machine(2)
    except RuntimeError as error:
        rounds.notes.append(f"Two processes: not measured, since {error}")
        return 0
    two = Bursar(deployment, 2)
    for number in range(given.rounds):
        rounds.run(number, [two], of_two)
    rounds.where = before
    return two.calls


def many_keys(
    given: argparse.Namespace, rounds: Rounds, chosen: list[scenarios.Scenario], deployment: Deployment
) -> None:
    """Measure what runs among 400,000 keys, if asked, after all else."""
    if asked := [each for each in chosen if each.asked]:
        from tests.support.scale import Scale, fill

        print(f"Filling the database with {KEYS:,} virtual keys.", flush=True)
        with psycopg.connect(deployment.url, autocommit=True, cursor_factory=psycopg.ClientCursor) as link:
            fill(link, Scale(keys=KEYS, teams=KEYS // 10, customers=1_000, calls=1, refusals=1))
        for number in range(given.rounds):
            rounds.run(number, [Bursar(deployment)], asked)


if __name__ == "__main__":
    sys.exit(main())
