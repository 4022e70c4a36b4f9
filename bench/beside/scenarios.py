"""What is measured: requests, how many callers, and which figures are taken."""

from __future__ import annotations

from dataclasses import dataclass

CPU, ALONE, DELAY, MEMORY = "CPU", "p50", "event delay", "memory"
# A process may give memory back some seconds after it has grown.
REST = 12.0


@dataclass(frozen=True)
class Scenario:
    """A load.

    Attributes:
        long: whether requests have 100 kB.
        pace: of the provider's streams.
        figure: which figure the table has.
        spread: seconds within which callers begin.
        ours: whether only Bursar is measured.
        least: seconds that it must be measured, however short the rounds are.
        asked: whether it runs only if it is named.
    """

    name: str
    title: str
    figure: str
    callers: int
    stream: bool = False
    long: bool = False
    pace: str = "at once"
    spread: float = 0.0
    ours: bool = False
    least: float = 0.0
    processes: int = 1
    asked: bool = False

    @property
    def expect(self) -> str:
        return "message_stop" if self.stream else "output_tokens"


# In this order, since memory is what a process has after all that came before.
ALL = (
    Scenario("json", "JSON 2 kB, 32 callers, CPU ms a call", CPU, 32),
    Scenario("streams", "streams at once, 32 callers, CPU ms a call", CPU, 32, stream=True),
    Scenario("alone", "alone, p50, ms", ALONE, 1),
    Scenario("events", "event delay p99, 64 streams, ms", DELAY, 64, stream=True, pace="events", spread=0.5),
    Scenario("long", "JSON 100 kB, 32 callers, CPU ms a call", CPU, 32, long=True),
    Scenario("memory32", "memory 12 s after 100 kB bodies, 32 callers, MB", MEMORY, 32, long=True),
    Scenario("memory256", "memory 12 s after 100 kB bodies, 256 callers, MB", MEMORY, 256, long=True),
    Scenario(
        "slow", "event delay p99, 2,000 slow streams, ms", DELAY, 2000, True, pace="slow", spread=8, ours=True, least=10
    ),
    Scenario("two", "JSON 2 kB, 64 callers, two processes, CPU ms a call", CPU, 64, ours=True, processes=2),
    Scenario("keys", "JSON 2 kB, 32 callers, 400,000 keys, CPU ms a call", CPU, 32, ours=True, asked=True),
)
# Before a round measures a gateway: compilers that learn from what runs, and modules that load on first use, need it.
WARM_UP = 6.0
WARMING = (
    Scenario("warm", "warm-up", CPU, 16),
    Scenario("warm streams", "warm-up with streams", CPU, 16, stream=True),
)
NAMES = {scenario.name: scenario for scenario in ALL}
