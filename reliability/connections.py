"""`make connections`: thousands of slow or idle connections, and large bodies, at once: who notices?

It starts a gateway with two web processes, and a paying customer at a steady rate. Then come, one after the other:
10,000 idle connections, 10,000 whose heads arrive byte by byte, as many with a valid key whose bodies do, and 200
bodies of 32 MB at once, with an unknown key and with a valid one. For each it prints the paying customer's median, 99th
percentile and worst call, and the memory that the web processes have more than before. Its status is 1 if a call of the
customer's fails, or memory passes its cap. It needs root, and the Debian packages redis-server, iptables and iproute2.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from attacks.table import part
from gateway_project.embedded_postgres import CannotStart
from reliability import network, page, watch
from reliability.crowd import BODIES, IDLE, SLOW, TRICKLE
from reliability.load import JSON, STREAM, Load, answers
from reliability.network import CannotRun
from reliability.program import DoesNotAnswer, Program, within
from reliability.stage import Stage, running

FIRST_PORT = 22400
WEBS = 2
UNKNOWN_KEY = "sk-bf-" + "a" * 49
# Caps on what web processes may have more than before, in megabytes: 40 kB a connection, twice what a key's bodies may
# take in each process (BODY_MEMORY_BYTES_PER_KEY), and little for bodies that are never read.
CAP_OF_CONNECTIONS = 0.04
CAP_OF_KEY = WEBS * 2 * 135.0
CAP_OF_STRANGERS = 150.0
# The worst call of a paying customer, in seconds; a call that takes longer counts as not served.
WORST = 15.0


@dataclass(frozen=True)
class Scene:
    """A crowd: what it does, with a valid key or not, how many, and the cap on memory in MB."""

    what: str
    kind: str
    valid: bool
    count: int
    cap: float


@dataclass(frozen=True)
class Seen:
    """What a crowd caused. Milliseconds, megabytes."""

    scene: Scene
    ended: str
    most_open: int
    customer: dict[str, int]
    p50: float
    p99: float
    worst: float
    memory: float

    @property
    def faults(self) -> list[str]:
        """The promises that were broken."""
        found = []
        if self.memory > self.scene.cap:
            found.append(f"memory passed its cap of {self.scene.cap:.0f} MB")
        if set(self.customer) != {"200"}:
            found.append("calls of the paying customer failed")
        if self.worst > WORST * 1000:
            found.append(f"a call of the paying customer took more than {WORST:.0f} s")
        return found


def scenes(connections: int, bodies: int) -> list[Scene]:
    most = CAP_OF_STRANGERS + connections * CAP_OF_CONNECTIONS
    return [
        Scene(f"{connections:,} idle connections", IDLE, False, connections, most),
        Scene(f"{connections:,} heads, byte by byte", SLOW, False, connections, most),
        Scene(f"{connections:,} bodies, byte by byte, valid key", TRICKLE, True, connections, most),
        Scene(f"{bodies} bodies of 32 MB, unknown key", BODIES, False, bodies, CAP_OF_STRANGERS),
        Scene(f"{bodies} bodies of 32 MB, valid key", BODIES, True, bodies, CAP_OF_KEY),
    ]


def endure(scene: Scene, number: int, stage: Stage, keys: dict[str, str], seconds: float, rate: float) -> Seen:
    """Let a crowd come, and measure what the customer and the memory do meanwhile."""
    place, gateway = stage.gateway.folder, stage.gateway
    before = watch.look(gateway).memory
    load = Load(place, [gateway.url], keys["paying"], f"c{number}", rate=rate, kinds=[JSON, STREAM])
    load.start()
    within(30, lambda: len(load.calls()) > 3)
    command = [sys.executable, "-m", "reliability.crowd", gateway.address, str(gateway.port), scene.kind]
    key = keys["crowd"] if scene.valid else UNKNOWN_KEY
    crowd = Program("The crowd", [*command, str(scene.count)], place / f"crowd-{number}.log", {"KEY": key})
    begun = time.monotonic()
    crowd.start()
    most, highest = 0, before
    while time.monotonic() < begun + seconds and crowd.is_alive():
        time.sleep(0.25)
        highest = max(highest, watch.look(gateway).memory)
        counts = [int(line.split()[1]) for line in crowd.said().splitlines() if line.startswith("open ")]
        most = max([most, *counts])
    crowd.stop(signal.SIGTERM, 30)
    ended = time.monotonic()
    calls = [call for call in load.finish() if begun <= call.due < ended]
    took = sorted(call.seconds * 1000 for call in calls) or [0.0]
    says = [line for line in crowd.said().splitlines() if line.startswith("ended ")]
    return Seen(
        scene,
        says[-1].removeprefix("ended ") if says else crowd.said()[-200:],
        most,
        answers(calls),
        part(took, 0.5),
        part(took, 0.99),
        took[-1],
        highest - before,
    )


def row(seen: Seen) -> str:
    customer = ", ".join(f"{count} × {ended}" for ended, count in seen.customer.items())
    kept = "; ".join(f"**{fault}**" for fault in seen.faults) or "kept"
    times = f"{seen.p50:,.0f} / {seen.p99:,.0f} / {seen.worst:,.0f} ms"
    memory = f"{seen.memory:,.0f} of {seen.scene.cap:,.0f} MB"
    return page.row([seen.scene.what, seen.most_open, seen.ended, customer, times, memory, kept])


HEADER = (
    "| Crowd | Open at once | How they ended | Paying customer | p50 / p99 / worst | Memory, of its cap | Promises |\n"
    "|---|---|---|---|---|---|---|"
)


def look(options: argparse.Namespace) -> list[Seen]:
    """All crowds, one after the other."""
    say("Starting PostgreSQL, Redis, the provider and the gateway …")
    found = []
    with running(options.port, webs=WEBS) as stage:
        keys = stage.gateway.cast({}, {"paying": {"provider_key": ["main"]}, "crowd": {"provider_key": ["main"]}})
        for number, scene in enumerate(scenes(options.connections, options.bodies)):
            say(f"{scene.what} …")
            seen = endure(scene, number, stage, keys, options.seconds, options.rate)
            found.append(seen)
            say(f"    {row(seen)}")
    return found


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}", flush=True)


def run() -> int:
    parser = argparse.ArgumentParser(
        prog="make connections", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="of each crowd at most; default: 60")
    parser.add_argument("--connections", type=int, default=10_000, metavar="N", help="default: 10000")
    parser.add_argument("--bodies", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument(
        "--rate", type=float, default=10, metavar="N", help="the customer's calls a second; default: 10"
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the table into this page")
    parser.add_argument("--port", type=int, default=FIRST_PORT, help=f"the first of four; default: {FIRST_PORT}")
    options = parser.parse_args()
    network.apart()
    found = look(options)
    how = f"{options.seconds:.0f} s for each crowd, {options.rate:g} calls a second of the paying customer"
    text = f"{page.conditions(how)}\n\n{HEADER}\n" + "\n".join(map(row, found))
    print(f"\n{text}\n")
    if options.write:
        page.write(options.write, "connections", text)
    return int(any(seen.faults for seen in found))


def main() -> int:
    try:
        return run()
    except (CannotRun, CannotStart, DoesNotAnswer) as error:
        print(f"make connections: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
