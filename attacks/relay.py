"""How little the relay notices of its pages: `make bench-relay`.

It starts a gateway as `make attack` does, and an honest customer with 20 calls a second. It compares that customer's
latency while 20 clients guess passwords, and while two people export a ledger, with the time before and after. The
order of the two alternates. Its status is 1 if the 99th percentile moves by `MOST` ms or more in the median of the
rounds, since whatever else runs on the machine moves single rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from attacks import deployment, wire
from attacks.customer import Customer
from attacks.deployment import Gateway
from attacks.pages import guessing
from attacks.provider import Provider
from attacks.scene import Scene, counted, for_seconds
from attacks.table import Felts

ROOT = Path(__file__).resolve().parent.parent
EXPORTER = Path(__file__).with_name("exporter.py")
# The most by which the 99th percentile may move, in milliseconds.
MOST = 10.0
EXPORTS = 2
REST_SECONDS = 2.0

Disturb = Callable[[float], Awaitable[str]]


def main() -> int:
    """Measure, and print a line for each round and a verdict.

    Raises:
        RuntimeError: the gateway doesn't start.
    """
    parser = argparse.ArgumentParser(
        prog="make bench-relay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each disturbance, and each peace, lasts")
    parser.add_argument("--calls", type=int, default=300_000, help="rows of the ledger that is exported")
    parser.add_argument("--checkout", type=Path, default=ROOT, metavar="FOLDER", help="the gateway of another checkout")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    provider = Provider()
    with contextlib.ExitStack() as stack:
        stack.callback(provider.stop)
        gateway = stack.enter_context(deployment.running(options.checkout.resolve()))
        cast = gateway.cast(provider.url, provider.url)
        cookie = exporter(gateway, options.calls)
        customer = Customer(gateway.url, cast.honest)
        stack.callback(customer.stop)
        scene = Scene(gateway.address, cast)
        disturbances: dict[str, Disturb] = {
            "20 clients guess passwords": lambda seconds: guessing(scene, seconds),
            f"{EXPORTS} exports": lambda seconds: exporting(scene, cookie, seconds),
        }
        return asyncio.run(compare(customer, disturbances, options.rounds, options.seconds))


def exporter(gateway: Gateway, calls: int) -> str:
    """The cookie of someone who may export the ledger, which gets this many rows."""
    answer = subprocess.run(  # noqa: S603
        [sys.executable, EXPORTER, str(calls)],
        cwd=gateway.checkout,
        env=os.environ | gateway.environment | {"PYTHONPATH": os.fspath(gateway.checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise RuntimeError(answer.stderr[-2000:])
    return answer.stdout.strip()


async def exporting(scene: Scene, cookie: str, seconds: float) -> str:
    """Export all calls again and again, in `EXPORTS` clients that read as fast as they can."""
    deadline = time.monotonic() + seconds
    first = wire.head("GET", "/admin/calls/?format=csv", {"cookie": cookie})

    async def once() -> str:
        heard = await wire.say(scene.address, first, seconds=deadline - time.monotonic())
        return "200, cut off at the end" if heard == wire.NO_ANSWER else heard

    return counted(await for_seconds(seconds, EXPORTS, once))


async def compare(customer: Customer, disturbances: Mapping[str, Disturb], rounds: int, seconds: float) -> int:
    """Run the rounds; 1 if a disturbance moves the 99th percentile too far."""
    moved: dict[str, list[float]] = {name: [] for name in disturbances}
    # The first calls fill caches.
    await asyncio.sleep(3)
    print(f"{'':<30} {'before':>22} {'during':>22} {'after':>22}   p99: ratio, difference (p50 / p99 / worst, ms)")
    before = await felt(customer, seconds)
    for number in range(rounds):
        for name in list(disturbances)[:: -1 if number % 2 else 1]:
            during = await felt(customer, seconds, disturbances[name])
            await asyncio.sleep(REST_SECONDS)
            after = await felt(customer, seconds)
            peace = (before.p99 + after.p99) / 2
            moved[name].append(during.p99 - peace)
            print(
                f"{name:<30} {before!s:>22} {during!s:>22} {after!s:>22}   ×{during.p99 / peace:.2f}, "
                f"{during.p99 - peace:+.1f} ms (load {os.getloadavg()[0]:.1f})",
                flush=True,
            )
            before = after
    middle = {name: statistics.median(each) for name, each in moved.items()}
    for name, difference in middle.items():
        verdict = "within" if difference < MOST else "BEYOND"
        print(f"{name}: the 99th percentile moves by {difference:+.1f} ms in the median, {verdict} {MOST:g} ms")
    return int(max(middle.values()) >= MOST)


async def felt(customer: Customer, seconds: float, disturb: Disturb | None = None) -> Felts:
    """What the customer's calls take in this time, in peace or not. It prints what a disturbance heard, and how calls
    of the customer ended that failed."""
    begun = time.monotonic()
    if disturb is None:
        await asyncio.sleep(seconds)
    else:
        print(f"    heard {await disturb(seconds)}", flush=True)
    found = await customer.all_between(begun, begun + seconds)
    if failed := [each.ended for each in found if each.failed]:
        print(f"    the customer's calls failed: {counted(failed)}", flush=True)
    return Felts.of(found)


if __name__ == "__main__":
    sys.exit(main())
