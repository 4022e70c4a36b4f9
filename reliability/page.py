"""Results as Markdown, and their places in docs/reliability.md."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from reliability.judge import Verdict

HEADER = (
    "| Fault | Answers | At the provider | Rows | Interrupted | Surplus | Holds left | Recovered after | Promises "
    "| Measured |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


def answers_cell(verdict: Verdict) -> str:
    """How calls ended, by status: `310 × 200, 12 × 503`."""
    return ", ".join(f"{count} × {ended}" for ended, count in verdict.answers.items())


def seconds_cell(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


def of_faults(verdicts: Mapping[str, Verdict], measured: str, names: Sequence[str] = (), before: str = "") -> str:
    """The table of `make faults`.

    Args:
        verdicts: by the names of faults.
        measured: when and how.
        names: all faults, in the order of the table; those without a verdict keep their line of `before`.
    """
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in before.splitlines() if line.startswith("| ")}
    for name, each in verdicts.items():
        kept = "; ".join(f"**{fault}**" for fault in each.faults) or "kept"
        cells = [name, answers_cell(each), each.upstream, each.rows, each.interrupted, each.surplus, each.holds]
        lines[name] = row([*cells, seconds_cell(each.recovery), kept, measured])
    return "\n".join([*HEADER, *(lines[name] for name in names or verdicts if name in lines)])


def row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def conditions(how: str) -> str:
    """A line that says when and how something was measured."""
    return f"Measured on {measured(how)}."


def measured(how: str) -> str:
    """The day, how it was measured, and how busy the machine was."""
    machine = f"{os.cpu_count()} processors, load average {os.getloadavg()[1]:.0f}"
    return f"{time.strftime('%Y-%m-%d', time.gmtime())}: {how}; {machine}"


def write(page: Path, name: str, text: str) -> None:
    """Put this text between the page's marks of that name; everything else stays.

    Raises:
        ValueError: the page has no place for it.
    """
    begin, end = f"<!-- make {name} -->", f"<!-- end of make {name} -->"
    before, _, after = parts(page, name)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def parts(page: Path, name: str) -> tuple[str, str, str]:
    """What is before the page's marks of that name, between and after them.

    Raises:
        ValueError: the page has no place for it.
    """
    begin, end = f"<!-- make {name} -->", f"<!-- end of make {name} -->"
    before, mark, rest = page.read_text().partition(begin)
    between, last, after = rest.partition(end)
    if not (mark and last):
        raise ValueError(f"{page} has no {begin} … {end}")
    return before, between, after
