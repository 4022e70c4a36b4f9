"""`make attack`: attack a gateway with knowledge of its code, and measure what another customer notices.

It starts a gateway as `make run` does (two web processes, embedded PostgreSQL) in a temporary folder, two fake
providers, and an honest customer with 20 calls a second. It measures that customer's latency without an attack (“in
peace”) and during each attack. At the end it prints a table; its status is 1 if a bound was broken. It takes some
minutes, and some GB of memory if the gateway doesn't withstand the attacks. All of its traffic is on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import signal
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attacks import calls as calls
from attacks import deployment, table
from attacks import pages as pages
from attacks.customer import Customer
from attacks.deployment import Gateway
from attacks.measure import MEGABYTE, Meter
from attacks.provider import Provider
from attacks.scene import ATTACKS, LEAST_MEDIAN, LEAST_WORST, Attack, Bounds, Scene
from attacks.table import COLUMNS, Felts, Outcome

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "security.md"
# Peace before each attack, and the time right after it, which still counts as the attack.
PEACE_SECONDS = 2.0
AFTER_SECONDS = 1.0
# Calls must succeed again within this time after an attack.
RECOVERY_SECONDS = 40.0
# After an attack that left more than this in memory, the next one gets new processes.
LEFT_OVER = 48 * MEGABYTE


@contextlib.contextmanager
def ending(what: Provider | Customer) -> Iterator[None]:
    try:
        yield
    finally:
        what.stop()


async def suffer(attack: Attack, scene: Scene, customer: Customer, meter: Meter) -> Outcome:
    """Run one attack, and measure what the customer notices."""
    begun = time.monotonic()
    with meter:
        try:
            heard = await attack.act(scene)
        except Exception as error:  # the other attacks run even if this one fails
            heard = f"{type(error).__name__}: {error}"
            scene.expect(False, f"the attack itself failed: {heard}")
        ended = time.monotonic() + AFTER_SECONDS
        felt = await customer.all_between(begun, ended)
    return Outcome(attack, Felts.of(felt), meter.taken, heard, scene.faults)


async def recovered(customer: Customer) -> bool:
    """Whether the customer's calls, ten in a row, are answered again."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while time.monotonic() < deadline:
        begun = time.monotonic()
        await asyncio.sleep(0.5)
        found = await customer.all_between(begun, begun + 0.5)
        if found and not any(each.failed or each.seconds > 5 for each in found):
            return True
    return False


async def go_through(attacks: Sequence[Attack], gateway: Gateway, cast: deployment.Cast) -> tuple[list[Outcome], Felts]:
    """Run these attacks one after the other, with peace before each."""
    outcomes, peaceful = [], []
    customer = Customer(gateway.url, cast.honest)
    meter = Meter(gateway, "honest")
    with ending(customer), contextlib.closing(meter):
        # The first calls fill caches.
        await asyncio.sleep(3)
        for attack in attacks:
            begun = time.monotonic()
            await asyncio.sleep(PEACE_SECONDS)
            peaceful += await customer.all_between(begun, begun + PEACE_SECONDS)
            scene = Scene(gateway.address, cast)
            before = meter.memory()
            outcome = await suffer(attack, scene, customer, meter)
            outcome.judge(Felts.of(peaceful))
            if not await recovered(customer):
                outcome.faults.append(f"calls still fail {RECOVERY_SECONDS:.0f} s later")
            outcomes.append(outcome)
            say(outcome)
            if meter.memory() - before > LEFT_OVER:
                gateway.renew()
                await recovered(customer)
    return outcomes, Felts.of(peaceful)


def say(outcome: Outcome) -> None:
    """Print the result of an attack while the others continue."""
    print(f"{outcome.attack.point:>2}  {outcome.attack.name}: {outcome.attack.sent}.", flush=True)
    print(f"    {outcome.cell()}", flush=True)
    for fault in outcome.faults:
        print(f"    BROKEN: {fault}", flush=True)


def chosen(points: str) -> list[Attack]:
    """The attacks of these points; without points, all attacks."""
    wanted = {int(point) for point in points.split(",") if point.strip()}
    if unknown := wanted - {attack.point for attack in ATTACKS}:
        raise argparse.ArgumentTypeError(f"there is no attack of point {min(unknown)}")
    return [attack for attack in ATTACKS if not wanted or attack.point in wanted]


def bounds() -> str:
    usual = Bounds()
    text = (
        f"The usual bounds: no call of the honest customer fails; its median is below {usual.median:g} times that of "
        f"peace (which counts as at least {LEAST_MEDIAN:g} ms); its worst call is below {usual.worst:g} times the 99th "
        f"percentile of peace (at least {LEAST_WORST:g} ms); the attack adds at most {usual.memory} MB of memory, "
        f"{usual.temporary} MB of temporary files, {usual.logged} kB of log and {usual.rows} rows; PostgreSQL has at "
        f"most {usual.connections} connections in all; no web process ends."
    )
    return textwrap.fill(text, 115)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make attack", description=__doc__, epilog=bounds(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=chosen, default="", metavar="7,9", help="run only the attacks of these points")
    parser.add_argument("--write", choices=COLUMNS, help="put the figures into this column of docs/security.md")
    parser.add_argument(
        "--checkout", type=Path, default=ROOT, metavar="FOLDER", help="attack the gateway of another checkout"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    main_provider, other = Provider(), Provider()
    with ending(main_provider), ending(other), deployment.running(options.checkout.resolve()) as gateway:
        cast = gateway.cast(main_provider.url, other.url)
        outcomes, peace = asyncio.run(go_through(options.only, gateway, cast))
    cells = {table.key(each.attack): {COLUMNS[1]: each.cell()} for each in outcomes}
    print(f"\n{table.rendered(options.only, cells, {COLUMNS[1]: str(peace)})}\n")
    if options.write:
        table.write(PAGE, ATTACKS, options.write, outcomes, peace)
    broken = [f"{table.key(each.attack)}: {fault}" for each in outcomes for fault in each.faults]
    print("\n".join(["Bounds that were broken:", *broken]) if broken else "No bound was broken.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
