"""Model names and patterns: `*` stands for any characters, everything else for itself; case matters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from django.core.exceptions import ValidationError

PATTERN = re.compile(r"[A-Za-z0-9._:/@*+\[\]\-]{1,200}")


def check(pattern: str) -> None:
    """Refuse what can't be a model's name or pattern.

    Raises:
        ValidationError: with a sentence for the person who typed it.
    """
    if not PATTERN.fullmatch(pattern):
        raise ValidationError(
            "“%(pattern)s” is not a model name or pattern: letters, digits, . _ : / @ + - [ ] and * are allowed",
            params={"pattern": pattern},
        )


def check_name(name: str) -> None:
    """Refuse what can't be a model's name.

    Raises:
        ValidationError: with a sentence for the person who typed it.
    """
    check(name)
    if "*" in name:
        raise ValidationError("“%(name)s” is a pattern: name one model", params={"name": name})


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def matches(patterns: Iterable[str], model: str) -> bool:
    """Whether one of the patterns stands for this model."""
    return any(compiled(pattern).fullmatch(model) for pattern in patterns)


def allows(allowed: Iterable[str], denied: Iterable[str], *names: str) -> bool:
    """An empty allow-list allows everything; a model that is denied by any of its names is, whatever allows it."""
    allowed, denied = tuple(allowed), tuple(denied)
    return (not allowed or any(matches(allowed, name) for name in names)) and not any(
        matches(denied, name) for name in names
    )


def overlap(one: str, other: str) -> bool:
    """Whether some model name fits both patterns."""
    reachable = {(0, 0)}
    seen = set(reachable)
    while reachable:
        i, j = reachable.pop()
        if i == len(one) and j == len(other):
            return True
        steps = set()
        if i < len(one) and one[i] == "*":
            steps |= {(i + 1, j)} | ({(i, j + 1)} if j < len(other) else set())
        if j < len(other) and other[j] == "*":
            steps |= {(i, j + 1)} | ({(i + 1, j)} if i < len(one) else set())
        if i < len(one) and j < len(other) and one[i] == other[j]:
            steps.add((i + 1, j + 1))
        steps -= seen
        seen |= steps
        reachable |= steps
    return False
