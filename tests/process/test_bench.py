"""`make bench`: its table says only what was measured on quiet cores, and what it writes replaces only its section."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.beside import bodies, cores, results, scenarios
from bench.beside.callers import Plan, Seen
from bench.beside.rounds import Figures, Rounds
from tests.support.gateway import ROOT

JSON = scenarios.NAMES["json"]


def figures(cpu: float, postgres: float = 0.0) -> Figures:
    return Figures(cpu, postgres, rate=100, p50=1, delay99=1, grown=120, memory=100, strangers=0, failed=0)


def rounds(busy: bool = False) -> Rounds:
    where = cores.Cores(frozenset({1}), frozenset({0}), frozenset({0}))
    return Rounds(where, Path("unused"), 0, 3, busy)


def cells(found: Rounds) -> list[str]:
    table = results.Table(found, ["Bursar", "Portkey"], [JSON])
    return [cell.strip() for cell in table.lines()[-1].strip("|").split("|")]


def test_a_ratio_is_the_median_of_the_rounds_own_ratios_with_its_noise() -> None:
    found = rounds()
    found.figures = {
        ("json", "Bursar"): [figures(0.5, 0.5), figures(0.4, 0.4), figures(0.2, 0.2)],
        ("json", "Portkey"): [figures(1.0), figures(1.2), figures(0.4)],
    }
    assert cells(found)[1:] == [
        *("0.400 (0.200–0.500)", "0.800 (0.400–1.00)", "1.00 (0.400–1.20)"),
        *("2.0 (2.0–3.0)", "1.0 (1.0–1.5)", "–"),
    ]


def test_runs_that_others_disturbed_have_no_figure() -> None:
    found = rounds()
    found.figures = {("json", "Bursar"): [None], ("json", "Portkey"): [figures(1.0)]}
    assert cells(found)[1:] == ["no figure", "no figure", "1.00", "–", "–", "–"]


def test_each_figure_of_a_busy_machine_has_a_mark() -> None:
    found = rounds(busy=True)
    found.figures = {("json", "Bursar"): [figures(0.5)], ("json", "Portkey"): [figures(1.0)]}
    assert cells(found)[1:] == ["0.500\\*", "0.500\\*", "1.00\\*", "2.0\\*", "2.0\\*", "–"]


def test_writing_replaces_the_section_and_keeps_what_the_file_has_below(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    file.write_text("# Title\n\n## Pages\n\nSlow.\n")
    for text in ("first", "second"):
        results.write(file, f"{results.HEADING}\n\n{text}\n")
    assert file.read_text() == f"# Title\n\n{results.HEADING}\n\nsecond\n\n## Pages\n\nSlow.\n"


@pytest.mark.parametrize(("pace", "stream"), [("at once", False), ("at once", True), ("events", True)])
def test_callers_see_whole_answers_and_how_late_events_are(tmp_path: Path, pace: str, stream: bool) -> None:
    body = tmp_path / "body.json"
    body.write_bytes(bodies.encoded(bodies.short(), model=bodies.MODEL, stream=stream))
    provider = subprocess.Popen(
        [sys.executable, "-m", "bench.beside.upstream"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with provider:
        assert provider.stdin
        assert provider.stdout
        plan = Plan(
            port=json.loads(provider.stdout.readline())[pace],
            path="/v1/messages",
            headers={},
            body=str(body),
            callers=3,
            expect="message_stop" if stream else "output_tokens",
            warm=0.2,
            seconds=3,
            stamped=pace != "at once",
        )
        said = subprocess.run(
            [sys.executable, "-m", "bench.beside.callers"],
            cwd=ROOT,
            input=json.dumps(asdict(plan)),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        provider.stdin.close()
    seen = Seen(**json.loads(said[2]))
    assert said[:2] == ["begin", "end"]
    assert not seen.failed, seen.worst
    assert 0 < seen.calls <= seen.made
    assert (seen.delay99 > 0) == plan.stamped


def test_requests_have_the_sizes_that_the_table_names() -> None:
    sizes = [len(bodies.encoded(body, model=bodies.MODEL, stream=False)) for body in (bodies.short(), bodies.long())]
    assert 2_000 <= sizes[0] < 3_000
    assert 99_000 <= sizes[1] < 105_000


def test_a_processs_cpu_and_memory_are_those_of_its_tree() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        while not cores.seconds(cores.tree(busy.pid)):
            pass
        assert busy.pid in cores.tree(busy.pid)
        assert cores.memory([busy.pid]) > 1
    finally:
        busy.kill()
        busy.wait()
