"""Model names and patterns. `*` stands for any characters; every other character stands for itself, in either case."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

from django.core.exceptions import ValidationError

from keys import model_names
from keys.model_names import fold

PATTERN = re.compile(r"[A-Za-z0-9._:/@*+\[\]\-]{1,200}")
# Names by which sellers choose a model themselves: OpenRouter, Azure and others.
# https://openrouter.ai/docs/guides/routing/routers/auto-router,
# https://learn.microsoft.com/azure/foundry/openai/concepts/model-router (November 2026)
CHOSEN = re.compile(
    r"(?:^|/)(?:openrouter/(?:auto|free|fusion|pareto|bodybuilder)|auto|switchpoint/router|model-router)(?![a-z])",
    re.IGNORECASE,
)


def check(pattern: str) -> None:
    """Refuse text that is not a model name or pattern.

    Raises:
        ValidationError: with a sentence for the person who typed it.
    """
    if not PATTERN.fullmatch(pattern):
        raise ValidationError(
            "“%(pattern)s” is not a model name or pattern: letters, digits, . _ : / @ + - [ ] and * are allowed",
            params={"pattern": pattern},
        )


def check_name(name: str) -> None:
    """Refuse text that is not a model name.

    Raises:
        ValidationError: with a sentence for the person who typed it.
    """
    check(name)
    if "*" in name:
        raise ValidationError("“%(name)s” is a pattern: give the name of one model, without *", params={"name": name})


def matches(patterns: Iterable[str], model: str) -> bool:
    """Whether one of the patterns stands for this name."""
    return any(stands_for(pattern, model) for pattern in patterns)


def stands_for(pattern: str, model: str) -> bool:
    """Whether a pattern stands for this name.

    It does not backtrack, as a regular expression would: callers choose the name, and five stars could take minutes.
    """
    return fits(parts_of(pattern), fold(model))


def catch(patterns: Iterable[str], model: str) -> bool:
    """Whether one of the patterns stands for the model that this name means, under any of its names.

    Denying and counting models use this function. Allowing and serving models use `matches`, so that a list of allowed
    models never allows more than it says.
    """
    return any(catches(pattern, model) for pattern in patterns)


@lru_cache(maxsize=model_names.REMEMBERED)
def catches(pattern: str, model: str) -> bool:
    """Whether a pattern stands for the model that this name means. usage_matches in model_names.sql is its SQL twin."""
    if stands_for(pattern, model):
        return True
    names = model_names.names(model_names.identity(model))
    if "*" in pattern:
        parts = parts_of(model_names.pattern_identity(pattern))
        return any(fits(parts, name) for name in names)
    denied = model_names.identity(pattern)
    return any(model_names.same(denied, name) for name in names)


@lru_cache(maxsize=model_names.REMEMBERED)
def parts_of(pattern: str) -> tuple[str, ...]:
    """The texts between a pattern's stars, in lower case."""
    return tuple(fold(pattern).split("*"))


def fits(parts: tuple[str, ...], name: str) -> bool:
    """Whether a name consists of these parts in order, with any characters between them."""
    if len(parts) == 1:
        return name == parts[0]
    first, *middle, last = parts
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def as_regex(pattern: str) -> str:
    """PostgreSQL's regular expression for names in lower case that fit a pattern."""
    return f"^{'.*'.join(re.escape(part) for part in parts_of(pattern))}$"


def allows(allowed: Iterable[str], denied: Iterable[str], *names: str) -> bool:
    """Whether these lists let a model through. An empty allow-list allows all; a denied name beats an allowed one."""
    allowed, denied = tuple(allowed), tuple(denied)
    return (not allowed or any(matches(allowed, name) for name in names)) and not (
        denied and any(is_denied(allowed, denied, name) for name in names)
    )


def is_denied(allowed: Collection[str], denied: Collection[str], name: str) -> bool:
    """Whether a list of denied models has the model that this name means: also as a model in fast mode, or as one that
    a seller chooses, which may be any model, unless this choice is allowed by its name."""
    if catch(denied, name):
        return True
    if model_names.is_fast(name):
        return catch(denied, model_names.without_fast(name))
    return CHOSEN.search(name) is not None and not any(fold(name) == fold(each) for each in allowed)


def alike(one: Iterable[str], other: Iterable[str]) -> bool:
    """Whether two lists contain the same patterns, in any order and case."""
    return {fold(pattern) for pattern in one} == {fold(pattern) for pattern in other}


def includes(wider: str, narrower: str) -> bool:
    """Whether every name that fits the narrower pattern, or is that name, fits the wider one."""
    # A star of the narrower one is a character that only a star of the wider one stands for.
    return fits(parts_of(wider), fold(narrower))


def overlap(one: str, other: str) -> bool:
    """Whether a model name exists that fits both patterns."""
    one, other = fold(one), fold(other)
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
