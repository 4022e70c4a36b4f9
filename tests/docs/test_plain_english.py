"""The texts of the product say things plainly: none of them has a phrase that strangers stumble over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import ROOT

APPS = ("keys", "usage", "reconciliation", "messages_api", "billing", "administration", "gateway_project")
PLACES = ("README.md", "docs", ".env.example", "DECISIONS.md", "CHANGELOG.md", "templates", *APPS)
TEXTS = frozenset((".md", ".py", ".sql", ".html"))
# A landed migration never changes, nor does the SQL that it loads, and a recording is a provider's text.
OTHERS_WORDS = frozenset(("migrations", "sql", "recordings"))

PHRASES = (
    *("so many", "so long", "is none", "told", "nobody", "whoever", "anew", "of its own making"),
    *("come to", "comes to", "came to", "somebody", "anybody", "for all that", "hears of", "is known to be wrong"),
    *("as far as", "for ever", "no one", "let through", "is away", "are away", "was away", "taken for dead"),
    *("whatever it takes", "of theirs", "goes by", "go by", "whatever comes", "who lost", "who asks for it", "nor any"),
)
# Between two words, a line may end: the next may begin with the mark of a comment or quotation, or both are strings.
GAP = r"(?:(?:\s|#|--|>)+|\s?\"\s+f?\"\s?)"
# Python's own words.
CODE = r"is\s+(?-i:None)\b"
PHRASE = re.compile(rf"\b(?!{CODE})(?:{'|'.join(phrase.replace(' ', GAP) for phrase in PHRASES)})\b", re.IGNORECASE)

# (path, the line's text) -> why the phrase may stay there.
COLUMN = "the name of a column, which a migration has given"
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("usage/arbiter/alerts.sql", "INSERT INTO usage_overrun (call, at, virtual_key_id, cost, held, told)"): COLUMN,
    ("usage/overruns.py", "UPDATE usage_overrun SET told = true"): COLUMN,
    (
        "usage/overruns.py",
        "WHERE call IN (SELECT call FROM usage_overrun WHERE NOT told FOR UPDATE SKIP LOCKED)",
    ): COLUMN,
    ("usage/overruns.py", "told = models.BooleanField(default=False)"): COLUMN,
    (
        "usage/overruns.py",
        'indexes: ClassVar = [models.Index(fields=["at"], name="usage_overrun_untold", condition=Q(told=False))]',
    ): COLUMN,
}

# In the name of a test, which is a sentence, too.
IN_NAMES = re.compile(
    r"^test_(?:who|one_that|of_(?:many|several|two))_|"
    r"_(?:nobody|whoever|whatever|wherever|told|anew|somebody|anybody|for_ever|hears|as_far_as|says_nothing_of)(?:_|$)"
)

Found = tuple[str, str]


def texts(place: str) -> Iterator[Path]:
    """The files of a place that people read."""
    path = ROOT / place
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.suffix in TEXTS and not OTHERS_WORDS & set(file.relative_to(ROOT).parts):
            yield file


def prose(source: str) -> str:
    """The comments and docstrings of Python code, in their lines."""
    lines = [""] * (source.count("\n") + 1)
    for comment in re.finditer(r"(?m)(?:^|\s)#(?!:) ?(.*)$", source):
        lines[source.count("\n", 0, comment.start(1))] = comment[1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and ast.get_docstring(node) is not None:
                assert first.end_lineno is not None
                lines[first.lineno - 1 : first.end_lineno] = source.splitlines()[first.lineno - 1 : first.end_lineno]
    return "\n".join(lines)


def phrases(text: str) -> Iterator[tuple[int, str]]:
    """The number of each line in which a phrase begins, and the line's text."""
    lines = text.splitlines()
    for match in PHRASE.finditer(text):
        number = text.count("\n", 0, match.start())
        yield number + 1, lines[number].strip()


def found(place: str) -> dict[Found, list[int]]:
    """Where a place has such phrases: by path and line's text, the numbers of these lines."""
    where: dict[Found, list[int]] = {}
    for file in texts(place):
        for number, line in phrases(file.read_text()):
            where.setdefault((file.relative_to(ROOT).as_posix(), line), []).append(number)
    return where


def of(place: str, path: str) -> bool:
    return path == place or path.startswith(f"{place}/")


@pytest.mark.parametrize("place", PLACES)
def test_a_text_has_no_phrase_that_strangers_stumble_over(place: str) -> None:
    faults = [
        f"{path}:{number}: {line}"
        for (path, line), numbers in found(place).items()
        if (path, line) not in EXCEPTIONS
        for number in numbers
    ]
    assert not faults, "say it plainly:\n" + "\n".join(faults)


def test_the_name_of_a_test_names_its_subject() -> None:
    names = (
        (path, name)
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    )
    assert [f"{path.name}: {name}" for path, name in names if IN_NAMES.search(name)] == []


def test_comments_and_docstrings_of_tests_have_no_such_phrase() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{number}: {line}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for number, line in phrases(prose(path.read_text()))
    ]
    assert not faults, "say it plainly:\n" + "\n".join(faults)


@pytest.mark.parametrize("place", PLACES)
def test_each_exception_is_still_needed_and_has_a_reason(place: str) -> None:
    here = {exception: reason for exception, reason in EXCEPTIONS.items() if of(place, exception[0])}
    assert here.keys() - found(place).keys() == set()
    assert all(here.values())


def test_each_exception_belongs_to_a_place() -> None:
    assert [path for path, _ in EXCEPTIONS if not any(of(place, path) for place in PLACES)] == []


def test_each_place_has_texts() -> None:
    assert [place for place in PLACES if not list(texts(place))] == []


@pytest.mark.parametrize(
    "text",
    [
        "It waits so long.",
        "# Beyond so\n# many bytes, it waits.",
        "-- There\n-- is\n-- none.",
        "Whoever calls, is TOLD.",
        "They come to 5 USD.",
        "Somebody sends what is known\n    to be wrong.",
        "It is of its own\n> making.",
        '"It waits so"\n    f" many seconds."',
    ],
)
def test_a_phrase_is_found_in_any_case_and_over_the_end_of_a_line(text: str) -> None:
    assert list(phrases(text))


@pytest.mark.parametrize(
    "text",
    [
        "As long as it lasts, as many as there are.",
        "An outcome, a total, a welcome tool.",
        "is nonempty",
        "the retold",
        "if this is None: pass",
    ],
)
def test_other_words_are_no_phrase(text: str) -> None:
    assert list(phrases(text)) == []
