"""A clock that is stepped under a program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reliability import clock

PROGRAM = "import time\nwhile input() != 'end':\n    print(time.time(), time.monotonic(), flush=True)"


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_clock_of_a_running_program_is_stepped_and_its_monotonic_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    environment = os.environ | clock.variables(file) | {"LD_PRELOAD": clock.library(tmp_path)}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    asked, answers = program.stdin, program.stdout
    assert asked is not None
    assert answers is not None

    def ahead() -> tuple[float, float]:
        """Seconds between the program's clocks and the machine's."""
        asked.write("ask\n")
        asked.flush()
        wall, steady = map(float, answers.readline().split())
        return wall - time.time(), steady - time.monotonic()

    with program:
        for step in (0, 3600, -7200):
            clock.step(file, step)
            wall, steady = ahead()
            assert abs(wall - step) < 60
            assert abs(steady) < 60
        asked.write("end\n")
        asked.flush()
