"""An attack: what it may use, what it found, and what the others may feel of it at most."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from attacks.deployment import Address, Cast


@dataclass(frozen=True)
class Bounds:
    """What an attack may do at most. `worst` and `median` are multiples of what the honest customer feels in peace (its
    99th percentile and its median, but no less than LEAST of them, in milliseconds); memory and temporary files are in
    MB, logs in kB."""

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
    # What the gateway did that it must not do, whatever the others felt.
    faults: list[str] = field(default_factory=list)

    def expect(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)


Act = Callable[[Scene], Awaitable[str]]


@dataclass(frozen=True)
class Attack:
    """A function that attacks; its docstring is what it sends, and it returns what it heard."""

    point: int
    name: str
    act: Act
    bounds: Bounds

    @property
    def sent(self) -> str:
        return " ".join((self.act.__doc__ or "").split()).rstrip(".")


ATTACKS: list[Attack] = []


def attack(point: int, name: str, **bounds: float) -> Callable[[Act], Act]:
    """This function is an attack of this point, with these bounds where they differ from the usual ones."""

    def add(act: Act) -> Act:
        ATTACKS.append(Attack(point, name, act, Bounds(**bounds)))  # type: ignore[arg-type]
        return act

    return add


def counted(answers: list[str]) -> str:
    """How often each came: `402 ×3, closed ×1`."""
    return ", ".join(f"{answer} ×{count}" for answer, count in sorted(Counter(answers).items())) or "nothing"


async def at_once(count: int, act: Callable[[int], Awaitable[str]]) -> list[str]:
    """Do this `count` times, side by side; what each heard."""
    return list(await asyncio.gather(*(act(number) for number in range(count))))


async def for_seconds(seconds: float, count: int, act: Callable[[], Awaitable[str]]) -> list[str]:
    """`count` callers that go on until the time is over; what they heard."""
    deadline, heard = time.monotonic() + seconds, []

    async def go_on(_: int) -> str:
        while time.monotonic() < deadline:
            heard.append(await act())
        return ""

    await at_once(count, go_on)
    return heard
