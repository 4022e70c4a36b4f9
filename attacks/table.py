"""The measurements as a Markdown table, and their place in docs/security.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attacks.customer import Felt
from attacks.measure import MEGABYTE, Taken
from attacks.scene import LEAST_MEDIAN, LEAST_WORST, Attack, Bounds

BEGIN, END = "<!-- make attack -->", "<!-- end of make attack -->"
COLUMNS = ("before", "after")
HEADER = ["| Point | Sent | Before | After |", "|---|---|---|---|"]


@dataclass(frozen=True)
class Felts:
    """A summary of a customer's calls: how many, how many failed, and their milliseconds."""

    calls: int
    failed: int
    p50: float
    p99: float
    worst: float

    @classmethod
    def of(cls, felt: Sequence[Felt]) -> Felts:
        took = sorted(each.seconds * 1000 for each in felt) or [0.0]
        return cls(len(felt), sum(each.failed for each in felt), part(took, 0.5), part(took, 0.99), took[-1])

    def __str__(self) -> str:
        failed = f"; **{self.failed} of {self.calls} calls failed**" if self.failed else ""
        return f"{self.p50:,.0f} / {self.p99:,.0f} / {self.worst:,.0f} ms{failed}"


def part(values: Sequence[float], share: float) -> float:
    """A percentile: the smallest of these sorted values that at least this share of them doesn't exceed."""
    return values[max(0, math.ceil(len(values) * share) - 1)]


@dataclass
class Outcome:
    """An attack, and its result."""

    attack: Attack
    felt: Felts
    taken: Taken
    heard: str
    faults: list[str] = field(default_factory=list)

    def judge(self, peace: Felts) -> None:
        """Add the bounds that the attack broke to its faults."""
        bounds, taken = self.attack.bounds, self.taken
        for broken, fault in (
            (self.felt.calls == 0, "the honest customer made no call"),
            (self.felt.failed > bounds.failed, f"{self.felt.failed} calls of the honest customer failed"),
            (self.felt.p50 > bounds.median * max(peace.p50, LEAST_MEDIAN), "its median call was slow"),
            (self.felt.worst > bounds.worst * max(peace.p99, LEAST_WORST), "its worst call was slow"),
            (taken.memory > bounds.memory * MEGABYTE, f"it took more than {bounds.memory} MB of memory"),
            (taken.temporary > bounds.temporary * MEGABYTE, f"it took more than {bounds.temporary} MB of files"),
            (taken.connections > bounds.connections, f"there were more than {bounds.connections} connections"),
            (taken.logged > bounds.logged * 1000, f"it left more than {bounds.logged} kB of log"),
            (taken.rows > bounds.rows, f"it left more than {bounds.rows} rows"),
            (taken.restarts > 0, f"{taken.restarts} web processes ended"),
        ):
            if broken:
                self.faults.append(fault)

    def cell(self) -> str:
        """The notable figures in one line, without the faults."""
        taken = self.taken
        parts = [
            str(self.felt),
            f"{taken.memory / MEGABYTE:,.0f} MB",
            *([f"{taken.temporary / MEGABYTE:,.0f} MB in files"] if taken.temporary >= MEGABYTE else []),
            f"{taken.connections} connections",
            *([f"{taken.logged / 1000:,.0f} kB logged"] if taken.logged >= 1000 else []),
            *([f"{taken.rows:,} rows"] if taken.rows else []),
            *([f"**{taken.restarts} web processes ended**"] if taken.restarts else []),
            f"heard {self.heard}",
        ]
        return "; ".join(parts)


Cells = dict[str, dict[str, str]]


def title(attack: Attack) -> str:
    own = differing(attack.bounds)
    return f"{attack.point}, {attack.name}{f' ({own})' if own else ''}"


def differing(bounds: Bounds) -> str:
    """The bounds of an attack that differ from the usual ones."""
    usual = Bounds()
    units = {"memory": "MB", "temporary": "MB in files", "logged": "kB logged", "rows": "rows"}
    return ", ".join(
        f"at most {getattr(bounds, name)} {unit}"
        for name, unit in units.items()
        if getattr(bounds, name) != getattr(usual, name)
    )


def rendered(attacks: Sequence[Attack], cells: Cells, peace: dict[str, str]) -> str:
    """The table, with the known columns."""
    in_peace = ["Peace", "Nothing", *(peace.get(column, "") for column in COLUMNS)]
    lines = [*HEADER, row(in_peace)]
    for each in attacks:
        known = cells.get(key(each), {})
        lines.append(row([title(each), each.sent, *(known.get(column, "") for column in COLUMNS)]))
    return "\n".join(lines)


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def key(attack: Attack) -> str:
    return f"{attack.point}, {attack.name}"


def write(page: Path, attacks: Sequence[Attack], column: str, outcomes: Sequence[Outcome], peace: Felts) -> None:
    """Put these outcomes into a column of the page's table; everything else stays.

    Raises:
        ValueError: the page has no place for the table.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    table, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no {BEGIN} … {END}")
    cells, known_peace = read(table, attacks)
    for outcome in outcomes:
        cells.setdefault(key(outcome.attack), {})[column] = outcome.cell()
    known_peace[column] = str(peace)
    page.write_text(f"{before}{BEGIN}\n\n{rendered(attacks, cells, known_peace)}\n\n{END}{after}")


def read(table: str, attacks: Sequence[Attack]) -> tuple[Cells, dict[str, str]]:
    """The cells that a table already has, by attack and column, and those of peace."""
    found: Cells = {}
    peace: dict[str, str] = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if len(cells) != 4:
            continue
        columns = {name: cell for name, cell in zip(COLUMNS, cells[2:], strict=True) if cell}
        if cells[0] == "Peace":
            peace = columns
        for each in attacks:
            # Bounds may have changed since.
            if cells[0].partition(" (")[0] == key(each):
                found[key(each)] = columns
    return found, peace
