"""A file has one subject: none of Python or SQL is longer than 450 lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import ROOT

PLACES = (
    *(
        "keys",
        "usage",
        "reconciliation",
        "messages_api",
        "billing",
        "administration",
        "gateway_project",
        "attacks",
        "reliability",
        "bench",
    ),
    "tests",
)
KINDS = frozenset((".py", ".sql"))
MOST_LINES = 450

LANDED = "it has landed, and what has landed never changes"
# Folder or file -> why it may have longer files. The list only becomes shorter.
EXCEPTIONS = {
    "usage/migrations": LANDED,
    "usage/sql": f"migrations load it: {LANDED}",
    "tests/process/schemas": "pg_dump has written it",
}


def long_files(place: Path) -> Iterator[tuple[str, int]]:
    """The files of a place that are too long, by their path from the root, and the number of their lines."""
    for file in sorted(place.rglob("*")):
        if file.suffix in KINDS and (lines := len(file.read_text().splitlines())) > MOST_LINES:
            yield file.relative_to(ROOT).as_posix(), lines


def is_of(path: str, exception: str) -> bool:
    return path == exception or path.startswith(f"{exception}/")


@pytest.mark.parametrize("place", PLACES)
def test_no_file_is_so_long_that_it_has_two_subjects(place: str) -> None:
    assert (ROOT / place).is_dir()
    faults = [
        f"{path}: {lines} lines"
        for path, lines in long_files(ROOT / place)
        if not any(is_of(path, exception) for exception in EXCEPTIONS)
    ]
    assert not faults, f"more than {MOST_LINES} lines: part them by subject, not by length:\n" + "\n".join(faults)


@pytest.mark.parametrize("exception", EXCEPTIONS)
def test_each_exception_is_still_needed_and_has_a_reason(exception: str) -> None:
    place = exception.partition("/")[0]
    assert any(is_of(path, exception) for path, _ in long_files(ROOT / place))
    assert EXCEPTIONS[exception]
