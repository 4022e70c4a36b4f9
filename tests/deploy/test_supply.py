"""What goes into a release is listed, audited and linted by the project's own commands."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from cyclonedx.schema import _res as schemas
from referencing import Registry, Resource

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = sys.executable


def bill(folder: Path, name: str = "sbom.json") -> bytes:
    subprocess.run([PYTHON, "deploy/sbom.py", folder / name], cwd=ROOT, check=True, capture_output=True)
    return (folder / name).read_bytes()


def test_the_bill_of_materials_has_each_pinned_package_with_its_hashes(tmp_path):
    made = json.loads(bill(tmp_path))
    pinned = re.findall(r"^([\w.-]+)==([^\s\\]+)", (ROOT / "requirements.txt").read_text(), re.M)
    assert {(each["name"], each["version"]) for each in made["components"]} == set(pinned)
    hashes = re.findall(r"--hash=sha256:(\w+)", (ROOT / "requirements.txt").read_text())
    assert sorted(one["content"] for each in made["components"] for one in each["hashes"]) == sorted(hashes)
    refs = {each["bom-ref"] for each in made["components"]}
    graph = {each["ref"]: each["dependsOn"] for each in made["dependencies"]}
    assert refs < set(graph)
    own = graph[made["metadata"]["component"]["bom-ref"]]
    assert any(each.startswith("pkg:pypi/django@") for each in own)
    # Each package is there because of another one, or of ourselves.
    assert {each for on in graph.values() for each in on} == refs


def test_the_bill_of_materials_keeps_to_cyclonedx_and_is_the_same_each_time(tmp_path):
    first = bill(tmp_path)
    assert bill(tmp_path, "again.json") == first
    folder = importlib.resources.files(schemas)
    read = {
        name: json.loads((folder / name).read_text())
        for name in ("bom-1.6.SNAPSHOT.schema.json", "spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json")
    }
    # Its parts name each other by their files' names.
    known = Registry(retrieve=lambda uri: Resource.from_contents(read[uri.rpartition("/")[2]]))  # type: ignore[call-arg]
    validator = jsonschema.Draft7Validator(read["bom-1.6.SNAPSHOT.schema.json"], registry=known)
    assert [error.message for error in validator.iter_errors(json.loads(first))] == []


@pytest.mark.parametrize("line", ["django>=5", "django==5.2.0", "git+https://example.com/x.git"])
def test_a_requirement_without_version_or_hash_makes_no_bill(line):
    program = "import sys; sys.path.insert(0, 'deploy'); import sbom; sbom.document(sys.argv[1], '1')"
    done = subprocess.run([PYTHON, "-c", program, line], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "NotPinned" in done.stderr


AWAY = "import sys; sys.exit('requests.exceptions.ConnectionError: Max retries exceeded')"
GOOD, SKIPPED = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}
BAD = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1"}]}


def answering(*packages: object, status: int = 0) -> str:
    """A program that answers as pip-audit does."""
    return f"import sys; print({json.dumps({'dependencies': packages})!r}); sys.exit({status})"


@pytest.mark.parametrize(
    ("program", "required", "status", "says"),
    [
        (AWAY, False, 0, "advisories not reachable"),
        (AWAY, True, 2, "advisories not reachable"),
        (answering(GOOD, BAD, status=1), False, 1, "c 2: PYSEC-1"),
        (answering(GOOD), True, 0, "No known fault in 1 packages"),
        (answering(GOOD, SKIPPED), True, 2, "don't know 1: b"),
        (answering(SKIPPED), False, 0, "advisories not reachable"),
        (answering(SKIPPED), True, 2, "advisories not reachable"),
        ("raise SystemExit('wrong options')", False, 1, "wrong options"),
    ],
)
def test_an_audit_says_whether_it_could_ask(program, required, status, says):
    environment = {name: value for name, value in os.environ.items() if name != "AUDIT"}
    done = subprocess.run(
        [PYTHON, "deploy/audit.py", PYTHON, "-c", program],
        cwd=ROOT,
        env=environment | ({"AUDIT": "required"} if required else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert says in done.stdout


def test_the_dockerfile_is_linted():
    hadolint = Path(PYTHON).parent / "hadolint"
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_hooks_before_a_commit_run_what_make_lint_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [each["repo"] for each in hooks] == ["local"]
    entries = " ".join(hook["entry"] for hook in hooks[0]["hooks"])
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    for program in ("ruff check", "ruff format --check", "mypy .", "hadolint"):
        assert program in entries
        assert program in lint
