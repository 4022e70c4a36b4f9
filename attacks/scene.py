"""An attack: what it may use, what it found, and how much of it other customers may notice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from attacks.deployment import Address, Cast


@dataclass(frozen=True)
class Bounds:
    """The most that an attack may do. `worst` and `median` are multiples of the honest customer's 99th percentile and
    median in peace, which count as at least LEAST_WORST and LEAST_MEDIAN milliseconds. Memory and temporary files are
    in MB, logs in kB."""

    failed: int = 0
    median: float = 10
    worst: float = 20
    memory: int = 256
    temporary: int = 32
    connections: int = 100
    logged: int = 100
    rows: int = 100


LEAST_MEDIAN, LEAST_WORST = 10.0, 50.0


@dataclass
class Scene:
    """Where an attack takes place."""

    address: Address
    cast: Cast
    # What the gateway did that it must not do, even if no customer noticed.
    faults: list[str] = field(default_factory=list)

    def expect(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)


Act = Callable[[Scene], Awaitable[str]]


@dataclass(frozen=True)
class Attack:
    """A function that attacks. Its docstring says what it sends; it returns the answers it got."""

    point: int
    name: str
    act: Act
    bounds: Bounds

    @property
    def sent(self) -> str:
        return " ".join((self.act.__doc__ or "").split()).rstrip(".")


ATTACKS: list[Attack] = []


def attack(point: int, name: str, **bounds: float) -> Callable[[Act], Act]:
    """Register a function as an attack of this point, with the bounds that differ from the usual ones."""

    def add(act: Act) -> Act:
        ATTACKS.append(Attack(point, name, act, Bounds(**bounds)))  # type: ignore[arg-type]
        return act

    return add


def counted(answers: list[str]) -> str:
    """How often each answer occurred: `402 ×3, closed ×1`."""
    return ", ".join(f"{answer} ×{count}" for answer, count in sorted(Counter(answers).items())) or "nothing"


async def at_once(count: int, act: Callable[[int], Awaitable[str]]) -> list[str]:
    """Act `count` times, side by side; the answer of each."""
    return list(await asyncio.gather(*(act(number) for number in range(count))))


async def for_seconds(seconds: float, count: int, act: Callable[[], Awaitable[str]]) -> list[str]:
    """Act again and again in `count` callers until the time is over; all answers."""
    deadline, heard = time.monotonic() + seconds, []

    async def go_on(_: int) -> str:
        while time.monotonic() < deadline:
            heard.append(await act())
        return ""

    await at_once(count, go_on)
    return heard
