"""What a check finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is. A warning is something that will hurt later, or that only an operator can judge."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        check: which check it is of.
        says: what was found.
        mend: what to do about it; empty where nothing is to be done.
    """

    check: str
    level: Level
    says: str
    mend: str = ""


Check = Callable[[], Iterator[tuple[Level, str, str]]]
OK, WARNING, FAULT = Level.OK, Level.WARNING, Level.FAULT


def attempt(name: str, check: Check) -> Iterator[Finding]:
    """The findings of a check. One that fails is a finding itself, and says only which kind of error it was."""
    try:
        for level, says, mend in check():
            yield Finding(name, level, says, mend)
    except Exception as error:
        yield Finding(name, FAULT, f"it can't be checked ({type(error).__name__})", "see the other lines")
