"""Model names and patterns: `*` stands for any characters, everything else for itself; case matters."""

from __future__ import annotations

import re
from collections.abc import Iterable

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


def matches(patterns: Iterable[str], model: str) -> bool:
    """Whether one of the patterns stands for this model."""
    return any(stands_for(pattern, model) for pattern in patterns)


def stands_for(pattern: str, model: str) -> bool:
    """Whether a pattern stands for this model. It never tries a part of the pattern at two places, as a regular
    expression would: callers choose the name, and five stars would take minutes."""
    first, *parts = pattern.split("*")
    if not parts:
        return model == pattern
    *middle, last = parts
    if len(model) < len(first) + len(last) or not (model.startswith(first) and model.endswith(last)):
        return False
    at, end = len(first), len(model) - len(last)
    for part in middle:
        at = model.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


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
