"""Rounds: each subject is started, measured in each scenario, and stopped; the order turns from round to round."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.beside import bodies, cores
from bench.beside.callers import Plan, Seen
from bench.beside.gateway import ROOT, Bursar
from bench.beside.scenarios import MEMORY, REST, WARM_UP, WARMING, Scenario
from bench.beside.subject import Subject

# The part of a pinned core that others may use.
MOST_STRANGERS = 0.05
ATTEMPTS = 3


@dataclass(frozen=True)
class Figures:
    """One run: milliseconds of CPU a call of the subject and of PostgreSQL, calls a second, milliseconds, MB (at the
    end of the run, and after a rest where memory is the figure), and the part of a core that others used."""

    cpu: float
    postgres: float
    rate: float
    p50: float
    delay99: float
    grown: float
    memory: float
    strangers: float
    failed: int


@dataclass
class Rounds:
    """Where figures are kept: `figures[scenario, subject]` has a run for each round, None if it was refused."""

    where: cores.Cores
    work: Path
    postgres: int
    seconds: float
    busy: bool
    figures: dict[tuple[str, str], list[Figures | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    # Calls of Bursar's callers: each must have a row.
    calls: int = 0

    def run(self, number: int, subjects: Sequence[Subject], scenarios: Sequence[Scenario]) -> None:
        """One round."""
        for subject in list(subjects)[:: -1 if number % 2 else 1]:
            ours = isinstance(subject, Bursar)
            chosen = [scenario for scenario in scenarios if ours or not scenario.ours]
            try:
                subject.start(self.where.gateway)
                for scenario in WARMING:
                    self.once(subject, scenario, WARM_UP)
                for scenario in chosen:
                    self.measure(number, subject, scenario)
            except RuntimeError as error:
                self.notes.append(f"{subject.name}, round {number + 1}: {error}")
                print(f"round {number + 1}  {subject.name:<10} ends: {error}", flush=True)
                if ours:
                    raise
            finally:
                subject.stop()

    def measure(self, number: int, subject: Subject, scenario: Scenario) -> None:
        """Run a scenario until others leave the cores alone, three times at most."""
        kept = None
        for _ in range(ATTEMPTS):
            if (found := self.once(subject, scenario, self.seconds)) is None:
                break
            quiet = found.strangers <= MOST_STRANGERS
            self.say(number, subject, scenario, found, quiet or self.busy)
            if quiet or self.busy:
                kept = found
                break
        else:
            self.notes.append(
                f"{subject.name}, {scenario.title}, round {number + 1}: no figure, since others used more than "
                f"{MOST_STRANGERS:.0%} of a core in each of {ATTEMPTS} runs"
            )
        self.figures.setdefault((scenario.name, subject.name), []).append(kept)

    def say(self, number: int, subject: Subject, scenario: Scenario, found: Figures, kept: bool) -> None:
        what = "no figure"
        if kept:
            what = (
                f"CPU {found.cpu:.3f} ms a call, PostgreSQL {found.postgres:.3f}, p50 {found.p50:.2f} ms, "
                f"delay p99 {found.delay99:.1f} ms, {found.memory:.0f} MB ({found.grown:.0f} at the end), "
                f"{found.rate:.0f} calls/s"
            )
        failed = f", {found.failed} FAILED" if found.failed else ""
        print(
            f"round {number + 1}  {subject.name:<10} {scenario.name:<10} {what}{failed}; others {found.strangers:.0%}",
            flush=True,
        )

    def once(self, subject: Subject, scenario: Scenario, seconds: float) -> Figures | None:
        """One run; None if no call succeeded."""
        target = subject.target(scenario.pace)
        file = self.work / "body.json"
        body = bodies.long() if scenario.long else bodies.short()
        file.write_bytes(bodies.encoded(body, model=target.model, stream=scenario.stream))
        plan = Plan(
            port=target.port,
            path=target.path,
            headers=target.headers,
            body=str(file),
            callers=scenario.callers,
            expect=scenario.expect,
            warm=max(1.0, seconds / 3),
            seconds=max(seconds, scenario.least),
            spread=scenario.spread,
            stamped=scenario.pace != "at once",
        )
        strangers = cores.Strangers(self.where, self.postgres)
        before: list[float] = []
        after: list[float] = []

        def look() -> list[float]:
            return [
                time.monotonic(),
                cores.seconds(subject.pids()),
                cores.seconds(cores.tree(self.postgres)) if self.postgres else 0.0,
                strangers.look(),
            ]

        seen = self.call(plan, lambda: before.extend(look()), lambda: after.extend(look()))
        if isinstance(subject, Bursar):
            self.calls += seen.made
        grown = cores.memory(subject.pids())
        if scenario.figure == MEMORY:
            time.sleep(REST)
        took, cpu, postgres, others = (now - then for now, then in zip(after, before, strict=True))
        calls = seen.calls + seen.failed
        if not seen.calls:
            self.notes.append(f"{subject.name}, {scenario.title}: no call succeeded {seen.worst}".rstrip())
            return None
        if seen.failed:
            self.notes.append(f"{subject.name}, {scenario.title}: {seen.failed} of {calls} calls failed ({seen.worst})")
        return Figures(
            cpu=cpu / calls * 1000,
            postgres=postgres / calls * 1000 if isinstance(subject, Bursar) else 0.0,
            rate=calls / took,
            p50=seen.p50,
            delay99=seen.delay99,
            grown=grown,
            memory=cores.memory(subject.pids()),
            strangers=max(0.0, others / took),
            failed=seen.failed,
        )

    def call(self, plan: Plan, begin: Callable[[], None], end: Callable[[], None]) -> Seen:
        """Run the callers in a process of their own, on the load's core."""
        with cores.on(self.where.load):
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.beside.callers"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        with process:
            assert process.stdin
            assert process.stdout
            try:
                process.stdin.write(json.dumps(asdict(plan)))
                process.stdin.close()
                for said, act in (("begin\n", begin), ("end\n", end)):
                    if process.stdout.readline() != said:
                        raise RuntimeError("the callers ended early")
                    act()
                return Seen(**json.loads(process.stdout.readline()))
            except BaseException:
                process.kill()
                raise
