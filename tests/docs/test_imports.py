"""Which modules import which: no circle, and arrows between apps, and between rooms of the API, in one direction only.

Every import counts, also one under `TYPE_CHECKING` or inside of a function, which only hides a circle, and those of a
package that looks for its modules by itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# An app imports itself and those after it.
APPS = (
    "reliability",
    "attacks",
    "gateway_project",
    "administration",
    "billing",
    "messages_api",
    "reconciliation",
    "usage",
    "keys",
)
# What isn't so yet: an importing module and the imported one. The lists only become shorter.
CLOSING_A_CIRCLE = set[tuple[str, str]]()
AGAINST_THE_ARROW = set[tuple[str, str]]()

# The rooms of messages_api and what lies beside them: each imports itself and those before it.
ROOMS = (
    *("models", "upstream", "server", "process", "json_text", "request", "answer", "providers", "callers", "relay"),
    *("stored", "endpoints", "prefixes", "urls", "reference", "refusal_admin", "admin", "tasks", "apps", "migrations"),
)

Imports = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """Every module of the apps by its name."""
    paths = sorted(path for app in APPS for path in (ROOT / app).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(source: str) -> Iterator[tuple[str, ...]]:
    """What each import may mean: a module, or (`from package import name`) a module in a package, else the package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name,) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            assert node.module is not None
            yield from ((f"{node.module}.{alias.name}", node.module) for alias in node.names)


@pytest.fixture(scope="module")
def imports() -> Imports:
    """The modules that each module imports."""
    found = modules()
    assert len(found) > 100
    by_module = dict[str, set[str]]()
    for name, path in found.items():
        source = path.read_text()
        firsts = (next((each for each in meant if each in found), name) for meant in imported(source))
        by_module[name] = {each for each in firsts if each != name}
        if "pkgutil.iter_modules" in source:
            by_module[name] |= {each for each in found if each.rpartition(".")[0] == name}
    return by_module


def circle(imports: Imports) -> list[str]:
    """Modules of which each imports the next one, and the last one the first; empty where there are none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def without(imports: Imports, left_out: set[tuple[str, str]]) -> Imports:
    return {name: {other for other in others if (name, other) not in left_out} for name, others in imports.items()}


def test_no_modules_import_each_other_in_a_circle(imports: Imports) -> None:
    found = circle(without(imports, CLOSING_A_CIRCLE))
    assert not found, " ▸ ".join(found)


def test_each_exception_closes_a_circle_still(imports: Imports) -> None:
    for exception in CLOSING_A_CIRCLE:
        importing, other = exception
        assert other in imports[importing], exception
        assert circle(without(imports, CLOSING_A_CIRCLE - {exception})), exception


def test_apps_import_in_one_direction(imports: Imports) -> None:
    def place(module: str) -> int:
        return APPS.index(module.partition(".")[0])

    against = {(name, other) for name, others in imports.items() for other in others if place(other) < place(name)}
    assert against == AGAINST_THE_ARROW


def test_rooms_import_in_one_direction(imports: Imports) -> None:
    def place(module: str) -> int:
        return ROOMS.index(module.split(".")[1])

    ours = {name: others for name, others in imports.items() if name.startswith("messages_api.")}
    against = {
        (name, other) for name, others in ours.items() for other in others & set(ours) if place(other) > place(name)
    }
    assert against == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import keys.models", ("keys.models",)),
        ("from keys import models", ("keys.models", "keys")),
        ("if TYPE_CHECKING:\n    from keys.models import Customer", ("keys.models.Customer", "keys.models")),
        ("def find():\n    from keys import models", ("keys.models", "keys")),
    ],
)
def test_each_way_to_import_is_seen(source: str, expected: tuple[str, ...]) -> None:
    assert list(imported(source)) == [expected]
