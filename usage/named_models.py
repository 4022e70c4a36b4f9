"""The catalogue's models that a name contains, so that an unknown name never costs less than what it may stand for.

Sellers put paths, regions and vendors before a model's name, and dates, versions and variants after it:
`openai/o1-pro-2027-01-01`, `us.anthropic.claude-opus-5-v1:0`, `anthropic/claude-opus-4.6-fast:nitro`. No list has all
of these names, and callers choose them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from genai_prices import data_snapshot, types

from keys import model_names

# Suffixes that don't make a name another model: a date, `latest`, or a deployment's version.
SUFFIX = re.compile(r"(?:[-@.:](?:latest|\d{8}|\d{4}-\d{2}-\d{2}|v\d+(?::\d+)?))+$")
# What follows a name without making it another model's: a date, `latest`, or what OpenRouter adds to choose a seller.
DATED = re.compile(r"(?:[-@:](?:latest|\d{8}|\d{4}-\d{2}-\d{2}|nitro|floor|exacto|online))+$")
# What separates the parts of a name. Some sellers write `gpt-5-2-pro` for `gpt-5.2-pro`.
BETWEEN = re.compile(r"[^a-z0-9]+")

# A model, and the price list that it is in.
Entry = tuple[str, types.ModelInfo]


@cache
def catalogue() -> dict[str, types.Provider]:
    """The package's price lists, by the package's name for the provider."""
    return {provider.id: provider for provider in data_snapshot._bundled_snapshot().providers}


def clauses(match: types.MatchLogic) -> Iterator[types.MatchLogic]:
    """The simple clauses of a matching rule, with “and” and “or” flattened."""
    if isinstance(match, types.ClauseOr):
        for part in match.or_:
            yield from clauses(part)
    elif isinstance(match, types.ClauseAnd):
        for part in match.and_:
            yield from clauses(part)
    else:
        yield match


def literal(clause: types.MatchLogic) -> str:
    """The text that a clause compares with."""
    return str(next(iter(vars(clause).values())))


def names(entry: types.ModelInfo, model: str) -> bool:
    """Whether the entry names exactly this model. The catalogue matches prefixes; `claude-3-opus-xyz` isn't Opus 3."""
    base = SUFFIX.sub("", model)
    for clause in clauses(entry.match):
        if isinstance(clause, types.ClauseRegex):
            if clause.regex.startswith("^") and clause.regex.endswith("$") and clause.is_match(model):
                return True
        elif SUFFIX.sub("", literal(clause).lower()) == base:
            return True
    return SUFFIX.sub("", entry.id.lower()) == base


def called(entry: types.ModelInfo) -> Iterator[str]:
    """The names by which the catalogue knows a model."""
    yield entry.id
    yield from (literal(each) for each in clauses(entry.match) if not isinstance(each, types.ClauseRegex))


def parts_of(name: str) -> tuple[str, ...]:
    """A name's letters and digits, as they stand together."""
    return tuple(filter(None, BETWEEN.split(model_names.fold(name))))


@cache
def index(lists: tuple[str, ...]) -> Mapping[tuple[str, ...], Sequence[Entry]]:
    """The models of these price lists by the parts of their names, with and without the vendor in front."""
    found: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    for source in lists:
        for entry in catalogue()[source].models:
            for name in {spelling for each in called(entry) for spelling in (each, model_names.own_name(each))}:
                found[parts_of(name)].append((source, entry))
    found.pop((), None)
    return dict(found)


@cache
def longest(lists: tuple[str, ...]) -> int:
    """The parts of the longest name in these price lists."""
    return max(map(len, index(lists)), default=0)


def within(lists: tuple[str, ...], name: str) -> Iterator[Entry]:
    """The models of these price lists whose names this one contains, but none whose name is only a part of another's:
    `o1-pro-2027-01-01` contains o1-pro, and not o1. Other parts may stand between those of a name:
    `gpt-4o-2027-01-01:extended` contains `gpt-4o:extended`.
    """
    known, parts = index(lists), parts_of(name[: model_names.LONGEST])
    whole: list[tuple[str, ...]] = []
    covered: list[tuple[int, int]] = []
    for size in range(min(len(parts), longest(lists)), 0, -1):
        for begin in range(len(parts) - size + 1):
            end = begin + size
            if any(first <= begin and end <= last for first, last in covered):
                continue
            if parts[begin:end] in known:
                covered.append((begin, end))
                whole.append(parts[begin:end])
    apart = [each for each in made_of(lists, frozenset(parts)) if each not in whole and is_part(each, parts)]
    found = whole + [
        each for each in apart if not any(each != other and is_part(each, other) for other in whole + apart)
    ]
    for each in found:
        yield from known[each]


def made_of(lists: tuple[str, ...], parts: frozenset[str]) -> list[tuple[str, ...]]:
    """The names in these price lists that have no other parts than these."""
    return [name for name, distinct in distinct_parts(lists) if distinct <= parts]


@cache
def distinct_parts(lists: tuple[str, ...]) -> Sequence[tuple[tuple[str, ...], frozenset[str]]]:
    """Each name in these price lists, and its parts in no order."""
    return [(name, frozenset(name)) for name in index(lists)]


def is_part(name: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether all parts of a name occur in the other one, in the same order."""
    left = iter(other)
    return all(part in left for part in name)


def is_version(priced: str, name: str) -> bool:
    """Whether a name means the model that has this name, from the same seller: with any date where the other has none,
    and in any spelling."""
    (seller, own, priced_date), (other, called_own, date) = sold(priced), sold(name)
    return (seller, own) == (other, called_own) and priced_date in ("", date)


def sold(name: str) -> tuple[str, str, str]:
    """What a seller puts before a model's name, the name, and its date. A cloud's name has a price of its own."""
    name = model_names.RESOURCE.sub(r"\1", model_names.fold(name), count=1)
    own = model_names.own_name(name)
    at = len(name) - len(own) + max(0, own.find("claude-"))
    meant, date = model_names.undated(model_names.identity(name[at:]))
    undated = DATED.sub("", meant)
    return name[:at], undated, date or meant[len(undated) :]
