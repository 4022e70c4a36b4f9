"""The table of a comparison, and the first section of bench/RESULTS.md."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.beside import scenarios
from bench.beside.rounds import MOST_STRANGERS, Figures, Rounds
from bench.beside.scenarios import Scenario

HEADING = "## Beside nginx, Portkey and LiteLLM (`make bench`)"
TAKEN: dict[str, Callable[[Figures], float]] = {
    scenarios.CPU: lambda found: found.cpu,
    scenarios.ALONE: lambda found: found.p50,
    scenarios.DELAY: lambda found: found.delay99,
    scenarios.MEMORY: lambda found: found.memory,
}
NONE = "–"


def with_postgres(found: Figures) -> float:
    return found.cpu + found.postgres


class Table:
    """A comparison's figures as Markdown. `subjects` are names of columns, ours first."""

    def __init__(self, rounds: Rounds, subjects: Sequence[str], chosen: Sequence[Scenario]) -> None:
        self.rounds, self.subjects, self.chosen = rounds, subjects, chosen

    def lines(self) -> list[str]:
        peers = [name for name in self.subjects[1:] if not name.startswith("Bursar")]
        names = ["", "Bursar", "with PostgreSQL", *peers, "Portkey / Bursar", "with PostgreSQL", "LiteLLM / Bursar"]
        return [_row(names), "|" + "---|" * len(names), *(self.line(each, peers) for each in self.chosen)]

    def line(self, scenario: Scenario, peers: Sequence[str]) -> str:
        take = TAKEN[scenario.figure]
        ours = "Bursar" if scenario.processes == 1 else f"Bursar, {scenario.processes} processes"
        costs = scenario.figure == scenarios.CPU
        both = self.cell(scenario, ours, with_postgres) if costs else NONE
        ratios = [self.ratio(scenario, "Portkey", take), NONE, self.ratio(scenario, "LiteLLM", take)]
        if costs:
            ratios[1] = self.ratio(scenario, "Portkey", take, with_postgres)
        others = [self.cell(scenario, name, take) for name in peers]
        return _row([scenario.title, self.cell(scenario, ours, take), both, *others, *ratios])

    def cell(self, scenario: Scenario, subject: str, take: Callable[[Figures], float]) -> str:
        """The median (least–most) of the rounds."""
        runs = self.rounds.figures.get((scenario.name, subject))
        if not runs:
            return NONE
        values = [take(run) for run in runs if run]
        if not values:
            return "no figure"
        mark = "\\*" if self.rounds.busy else ""
        noise = f" ({_short(min(values))}–{_short(max(values))})" if len(values) > 1 else ""
        return f"{_short(statistics.median(values))}{mark}{noise}"

    def ratio(
        self,
        scenario: Scenario,
        peer: str,
        take: Callable[[Figures], float],
        ours: Callable[[Figures], float] | None = None,
    ) -> str:
        """The median (least–most) of the rounds' own ratios: how many times as much the peer takes."""
        mine = self.rounds.figures.get((scenario.name, "Bursar"), ())
        other = self.rounds.figures.get((scenario.name, peer), ())
        pairs = zip(mine, other, strict=False)
        values = [take(b) / (ours or take)(a) for a, b in pairs if a and b and (ours or take)(a)]
        if not values:
            return NONE
        mark = "\\*" if self.rounds.busy else ""
        noise = f" ({min(values):.1f}–{max(values):.1f})" if len(values) > 1 else ""
        return f"{statistics.median(values):.1f}{mark}{noise}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _short(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def machine() -> str:
    """The processors, the memory and the kernel."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", info)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {model[1] if model else platform.machine()}, {memory:.0f} GB, Linux {platform.release()}"


def section(table: Table, versions: Sequence[str], command: str, missing: Sequence[str], verdict: str) -> str:
    """The section as Markdown."""
    rounds = table.rounds
    runs = max((len(each) for each in rounds.figures.values()), default=0)
    where = rounds.where
    lines = [
        HEADING,
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, `{command}`: {machine()}. {'; '.join(versions)}.",
        "",
        f"Alternating rounds: {runs}, of {rounds.seconds:g} s a figure, after a warm-up. Each gateway has one "
        f"process on core {_cores(where.gateway)}; callers and a fake provider are on core {_cores(where.load)}, "
        f"PostgreSQL and Bursar's other roles on {_cores(where.others)}. Bursar has a virtual key with "
        "two budgets and two limits, a hold and a durable ledger row a call. nginx and LiteLLM "
        "check one key, Portkey none, and none of the three keeps a ledger. CPU is in ms a call, of the gateway's "
        "processes; memory is PSS. Median (least–most) of the rounds; ratios are of each round's own figures.",
        "",
        *table.lines(),
        "",
        f"PostgreSQL's own CPU a call: {postgres(table)}.",
        "",
        f"Bursar's memory at the end of the run, before it rests: {grown(table)}.",
    ]
    if rounds.busy:
        lines += ["", "\\* Measured with `--busy`: others may have used the cores at the same time."]
    else:
        lines += ["", f"A run in which others used more than {MOST_STRANGERS:.0%} of a pinned core has no figure."]
    lines += ["", *(f"- Missing: {line}" for line in missing), *(f"- {note}" for note in dict.fromkeys(rounds.notes))]
    return "\n".join([*lines, f"- {verdict}", ""])


def postgres(table: Table) -> str:
    chosen = [each for each in table.chosen if each.processes == 1 and each.figure in (scenarios.CPU, scenarios.ALONE)]
    cells = {each.title: table.cell(each, "Bursar", lambda found: found.postgres) for each in chosen}
    return "; ".join(f"{title}: {cell}" for title, cell in cells.items() if cell != NONE) or "not measured"


def grown(table: Table) -> str:
    chosen = [each for each in table.chosen if each.figure == scenarios.MEMORY]
    cells = (f"{each.callers} callers {table.cell(each, 'Bursar', lambda found: found.grown)} MB" for each in chosen)
    return "; ".join(cells) or "not measured"


def _cores(cores: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


def write(file: Path, text: str) -> None:
    """Put the section in place of the last one, before all others; what the file has below stays."""
    before = file.read_text() if file.exists() else "# Bursar: how fast it is\n\n"
    if HEADING in before:
        head, _, rest = before.partition(HEADING)
        _, found, below = rest.partition("\n## ")
        before_section, after = head, found.lstrip("\n") + below
    else:
        title, _, after = before.partition("\n")
        before_section, after = title + "\n\n", after.lstrip("\n")
    file.write_text(f"{before_section}{text}\n{after}".rstrip("\n") + "\n")
