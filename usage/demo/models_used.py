"""Which models demo data has, since when in its range, and how keys of each habit use them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Hosts that no resolver knows: calls and keys of a demo never reach a provider.
PROVIDER_KEYS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("anthropic-main", "anthropic", "https://anthropic.demo.invalid", ("claude-*",)),
    ("anthropic-second", "anthropic", "https://anthropic-second.demo.invalid", ("claude-*",)),
    ("openai-main", "openai", "https://openai.demo.invalid/v1", ("gpt-*",)),
    ("own-models", "openai", "https://models.demo.invalid/v1", ("house-*",)),
)


@dataclass(frozen=True, slots=True)
class DemoModel:
    """A model, and the part of the range (0 to 1) at which it is launched.

    Attributes:
        first, second: numbers of the provider keys that serve it; a fifth of the calls go to the second one.
        caches: `writes` (Anthropic bills cache writes), `reads` (only reads are reported), or nothing.
        thinks: whether its answers have thinking tokens.
    """

    name: str
    provider: str
    launch: float
    first: int
    second: int
    caches: str
    thinks: bool


def _claude(name: str, launch: float = 0, *, thinks: bool = True) -> DemoModel:
    return DemoModel(name, "anthropic", launch, 0, 1, "writes", thinks)


def _gpt(name: str, launch: float = 0) -> DemoModel:
    return DemoModel(name, "openai", launch, 2, 2, "reads", thinks=True)


# Each line of models, oldest first: a newer one takes most of the calls of the one before.
LINES: dict[str, tuple[DemoModel, ...]] = {
    "haiku": (_claude("claude-haiku-4-5", thinks=False), _claude("claude-haiku-5-5", 0.62, thinks=False)),
    "small gpt": (_gpt("gpt-5-mini"), _gpt("gpt-5.4-mini", 0.4)),
    "own": (DemoModel("house-classifier-2", "openai", 0.55, 3, 3, "", thinks=False),),
    "sonnet": (_claude("claude-sonnet-4-6"), _claude("claude-sonnet-5", 0.33), _claude("claude-sonnet-5-5", 0.8)),
    "gpt": (_gpt("gpt-5.2"), _gpt("gpt-5.4", 0.3), _gpt("gpt-5.6-terra", 0.74)),
    "opus": (_claude("claude-opus-4-6"), _claude("claude-opus-5", 0.25), _claude("claude-opus-5-5", 0.7)),
}
MODELS = tuple(model for line in LINES.values() for model in line)


@dataclass(frozen=True, slots=True)
class Habit:
    """How a key is used.

    Attributes:
        weight: its calls, against those of other habits.
        lines: the shares of the lines of models; they add up to 1.
        turns, gap: the most calls of a session, and the mean seconds between two of them.
        week: the weight of each day, from Monday on.
        hours: the weight of each hour of the customer's day.
        streams: the share of calls that ask for a stream.
    """

    weight: float
    lines: dict[str, float]
    turns: int
    gap: int
    week: tuple[float, ...]
    hours: tuple[int, ...]
    streams: float


# fmt: off
OFFICE = (0, 0, 0, 0, 0, 0, 1, 4, 10, 16, 18, 15, 8, 12, 17, 16, 13, 9, 5, 3, 2, 2, 1, 0)
DAYTIME = (3, 2, 2, 2, 2, 3, 5, 8, 11, 13, 14, 14, 13, 13, 13, 13, 12, 11, 11, 11, 10, 8, 6, 4)
NIGHT = (4, 20, 30, 20, 8, 3, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 2, 3)
# fmt: on
WORKDAYS = (1, 1.06, 1.1, 1.04, 0.86, 0.07, 0.05)
CODING, CHAT, SERVICE, DOCUMENTS = range(4)
HABITS = (
    Habit(3.0, {"opus": 0.42, "sonnet": 0.44, "haiku": 0.07, "gpt": 0.07}, 32, 80, WORKDAYS, OFFICE, 0.97),
    Habit(0.7, {"sonnet": 0.62, "opus": 0.1, "haiku": 0.08, "gpt": 0.2}, 9, 95, WORKDAYS, OFFICE, 0.95),
    Habit(
        *(1.6, {"haiku": 0.62, "sonnet": 0.16, "small gpt": 0.18, "own": 0.04}, 1, 0),
        *((1, 1, 1, 1, 1, 0.76, 0.7), DAYTIME, 0.3),
    ),
    Habit(0.7, {"haiku": 0.4, "sonnet": 0.5, "small gpt": 0.1}, 1, 0, (1, 1, 1, 1, 1, 0.5, 0.4), NIGHT, 0),
)
SLOTS = 100


def adopted(model: DemoModel, at: float) -> float:
    """The share of its line's calls that a model has (0 to 1) as long as it is the newest one.

    Args:
        at: the time, as a part of the range.
    """
    if model.launch == 0:
        return 1
    return 0 if at < model.launch else 0.92 / (1 + math.exp(-45 * (at - model.launch - 0.06)))


def shares(habit: Habit, at: float) -> dict[int, float]:
    """The share of each model (by its number in `MODELS`) of the calls of this habit, at a part of the range."""
    found = dict.fromkeys(range(len(MODELS)), 0.0)
    for name, share in habit.lines.items():
        for model in reversed(LINES[name]):
            taken = share * adopted(model, at)
            found[MODELS.index(model)] = taken
            share -= taken
    return found


def slots(values: dict[int, float]) -> list[int]:
    """Models as a list of `SLOTS` numbers, in which each stands as often as its share says."""
    whole = sum(values.values())
    found: list[int] = []
    upto = 0.0
    for number, share in values.items():
        upto += share / whole
        found += [number] * (round(upto * SLOTS) - len(found))
    return found


def mixes(weeks: int) -> Iterator[dict[str, Any]]:
    """The models of each habit in each week of the range, and the hours of the habit."""
    for number, habit in enumerate(HABITS):
        hours = slots(dict(enumerate(habit.hours)))
        for week in range(weeks):
            models = slots(shares(habit, week / max(1, weeks - 1)))
            yield {"habit": number, "week": week, "models": models, "hours": hours}
