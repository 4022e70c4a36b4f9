"""`make machines`: two machines on one database.

Each gateway runs in a network namespace with an address of its own; PostgreSQL, Redis and the fake providers run on the
host's side of their cables. It looks whether both agree on limits, budgets, revocation, cool-downs and the breaker's
state. Then it upgrades them one after the other, from the commit before (or --from) to this checkout, under load, and
looks for lost calls and rows. Its status is 1 if a promise was broken. It needs root, and the Debian packages
redis-server, iptables and iproute2.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from cryptography.fernet import Fernet

from gateway_project.embedded_postgres import CannotStart
from reliability import judge, network, page, provider
from reliability.database import Broker, Database
from reliability.deployment import Gateway, folder, system_user
from reliability.judge import Books
from reliability.load import JSON, STREAM, Load, answers, make
from reliability.network import CannotRun
from reliability.program import ROOT, DoesNotAnswer, within
from reliability.provider import Provider

FIRST_PORT = 22200
# Calls at once, and what the key of the limit may make a minute.
AT_ONCE, A_MINUTE = 60, 20
# Enough for some of them: a call's ceiling is below a cent.
SMALL_BUDGET = "0.05/year"
# Each process reads cool-downs every second.
SECONDS_TO_AGREE = 5.0
KEYS: dict[str, dict[str, Any]] = {
    "limited": {"provider_key": ["main"], "rpm": str(A_MINUTE)},
    "poor": {"provider_key": ["main"], "budget": [SMALL_BUDGET]},
    "revoked": {"provider_key": ["main"]},
    "cooling": {"provider_key": ["limiting"]},
    "breaking": {"provider_key": ["failing"]},
    "steady": {"provider_key": ["main"], "budget": ["1000000/year"]},
}


@dataclass
class Pair:
    """Two gateways, what they share, the credentials of KEYS, and a place on our side that commands run from."""

    gateways: list[Gateway]
    providers: dict[str, Provider]
    books: Books
    keys: dict[str, str]
    commands: Gateway


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was seen, and whether a promise was broken."""

    what: str
    seen: str
    broken: bool


@contextlib.contextmanager
def running(checkout: Path, port: int) -> Iterator[Pair]:
    """Two machines that run this checkout."""
    user = system_user()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(folder())
        spaces = [stack.enter_context(network.space(number)) for number in (1, 2)]
        hosts = [each.host for each in spaces]
        database = Database(place / "postgres", ["127.0.0.1", *hosts], port, user)
        stack.callback(database.stop)
        broker = Broker(place, ["127.0.0.1", *hosts], port + 1)
        stack.callback(broker.kill)
        named = ("main", "limiting", "failing")
        providers = {
            name: Provider(place, port + 2 + number, name=name, at=hosts[0]) for number, name in enumerate(named)
        }
        for upstream in providers.values():
            stack.callback(upstream.program.stop)
        shared = {
            "ALLOWED_PRIVATE_HOSTS": hosts[0],
            "SECRET_KEY": secrets.token_urlsafe(60),
            "MASTER_KEYS": Fernet.generate_key().decode(),
            "PEPPERS": secrets.token_urlsafe(40),
        }
        gateways = []
        for number, each in enumerate(spaces):
            own = {"DATABASE_URL": database.url(each.host), "CELERY_BROKER_URL": broker.url(each.host)}
            gateways.append(
                Gateway(
                    f"machine-{number + 1}",
                    place,
                    each.address,
                    port + 8,
                    user,
                    shared | own,
                    checkout,
                    space=each.name,
                    webs=2,
                )
            )
        database.start()
        broker.start()
        for upstream in providers.values():
            upstream.start()
        stack.callback(stop_all, gateways)
        for gateway in gateways:
            gateway.start()
        here = replace(gateways[0], name="commands", address="127.0.0.1", space="")
        here.environment["DATABASE_URL"] = database.url()
        keys = here.cast({name: upstream.url for name, upstream in providers.items()}, KEYS)
        yield Pair(gateways, providers, Books(database.url()), keys, here)


def stop_all(gateways: list[Gateway]) -> None:
    """Stop those that are in the list by then: an upgrade replaces them."""
    for gateway in gateways:
        gateway.stop()


async def many(pair: Pair, key: str, prefix: str, count: int) -> list[Counter[str]]:
    """Calls at once, at both machines by turns; how they ended at each."""
    found = [Counter[str](), Counter[str]()]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    headers = {"x-api-key": pair.keys[key], "anthropic-version": "2023-06-01"}
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=None, trust_env=False) as client:

        async def one(number: int) -> None:
            ended, _ = await make(client, pair.gateways[number % 2].url, JSON, f"{prefix}-{number}")
            found[number % 2][ended] += 1

        await asyncio.gather(*(one(number) for number in range(count)))
    return found


def one(pair: Pair, key: str, machine: int, call: str) -> str:
    """One call at this machine; how it ended."""

    async def ask() -> str:
        headers = {"x-api-key": pair.keys[key], "anthropic-version": "2023-06-01"}
        async with httpx.AsyncClient(headers=headers, timeout=None, trust_env=False) as client:
            ended, _ = await make(client, pair.gateways[machine].url, JSON, call)
            return ended

    return asyncio.run(ask())


def limits_agree(pair: Pair) -> Finding:
    began = time.monotonic()
    found = asyncio.run(many(pair, "limited", "limit", AT_ONCE))
    most = A_MINUTE + int((time.monotonic() - began) * A_MINUTE / 60) + 1
    passed = sum(each["200"] for each in found)
    others = sum(count for each in found for ended, count in each.items() if ended not in ("200", "429"))
    seen = f"{passed} of {AT_ONCE} calls at once passed a limit of {A_MINUTE} a minute ({shares(found)})"
    return Finding("limits", seen, not 0 < passed <= most or others > 0)


def budgets_agree(pair: Pair) -> Finding:
    found = asyncio.run(many(pair, "poor", "budget", AT_ONCE))
    within(20, lambda: pair.books.holds() == 0)
    faults = judge.balance(pair.books.counters())
    over = [each for each in pair.books.counters() if each.amount < each.spent + each.held]
    refused = sum(count for each in found for ended, count in each.items() if ended != "200")
    seen = f"{AT_ONCE - refused} of {AT_ONCE} calls at once passed a budget of {SMALL_BUDGET} ({shares(found)})"
    seen += "; it was overspent" if over else "; it was not overspent, and its counters are exact"
    return Finding("budgets", "; ".join([seen, *faults]), bool(faults or over) or refused in (0, AT_ONCE))


def revocation_agrees(pair: Pair) -> Finding:
    before = [one(pair, "revoked", machine, f"revoke-{machine}") for machine in (0, 1)]
    answer = pair.commands.manage("revoke_virtual_key", "revoked")
    after = [one(pair, "revoked", machine, f"revoked-{machine}") for machine in (1, 0)]
    right = before == ["200", "200"] and not answer.returncode and after == ["401", "401"]
    seen = f"answers before: {', '.join(before)}; the next call at each machine: {', '.join(after)}"
    return Finding("revocation", seen + answer.stderr[-200:] * bool(answer.returncode), not right)


def cooling_agrees(pair: Pair, key: str, name: str, mode: str, calls: int, most: int) -> Finding:
    """After these calls at the first machine, calls at the second one spare the provider."""
    upstream = pair.providers[name]
    upstream.behave(mode)
    first = []
    for number in range(calls):
        first.append(one(pair, key, 0, f"{name}-{number}"))
        time.sleep(0.3)
    time.sleep(SECONDS_TO_AGREE / 2)
    before = sum(upstream.calls().values())
    second = [one(pair, key, 1, f"{name}-second-{number}") for number in range(3)]
    reached = sum(upstream.calls().values()) - before
    seen = f"answers at one machine: {', '.join(first)}; 3 calls at the other: {', '.join(second)}, "
    return Finding(f"cool-downs ({mode})", f"{seen}{reached} of them reached the provider", reached > most)


def shares(found: list[Counter[str]]) -> str:
    return " and ".join(", ".join(f"{count} × {ended}" for ended, count in sorted(each.items())) for each in found)


def upgrade(pair: Pair, rate: float) -> Finding:
    """Replace both gateways by this checkout's, one after the other, under load."""
    place = pair.gateways[0].folder
    load = Load(place, [each.url for each in pair.gateways], pair.keys["steady"], "up", rate=rate, kinds=[JSON, STREAM])
    load.start()
    within(30, lambda: len(load.calls()) > 10)
    for number, old in enumerate(pair.gateways):
        old.program.stop(signal.SIGTERM, 60)
        new = pair.gateways[number] = replace(old, checkout=ROOT)
        new.start()
    time.sleep(3)
    calls = load.finish()
    within(40, lambda: pair.books.holds() == 0)
    upstream = {name: count for name, count in pair.providers["main"].calls().items() if name.startswith("up-")}
    rows = pair.books.rows("up")
    faults = judge.compare(calls, upstream, rows, killed=False) + judge.balance(pair.books.counters())
    ended = ", ".join(f"{count} × {how}" for how, count in answers(calls).items())
    seen = f"{ended}; {sum(upstream.values())} calls at the provider, {len(rows)} rows"
    return Finding("rolling upgrade", "; ".join([seen, *faults]), bool(faults))


def extract(commit: str, to: Path) -> str:
    """Write the files of a commit into a folder. Returns its hash.

    Raises:
        CannotRun: there is no such commit here.
    """
    found = subprocess.run(
        ["git", "rev-parse", "--short", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise CannotRun(f"there is no commit {commit} in {ROOT}")
    to.mkdir(mode=0o755)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", to, "--no-same-owner"], input=archive.stdout, check=True)
    return found.stdout.strip()


def look(commit: str, rate: float, port: int) -> tuple[list[Finding], str]:
    """Everything, one after the other; and the older commit's hash."""
    found = []
    with folder() as place:
        earlier = extract(commit, place / "earlier")
        say(f"Starting two machines with {earlier} …")
        with running(place / "earlier", port) as pair:
            for agree in (
                limits_agree,
                budgets_agree,
                revocation_agrees,
                lambda pair: cooling_agrees(pair, "cooling", "limiting", provider.LIMITING, 1, 0),
                lambda pair: cooling_agrees(pair, "breaking", "failing", provider.FAILING, 8, 1),
                lambda pair: upgrade(pair, rate),
            ):
                finding = agree(pair)
                say(f"{'BROKEN ' if finding.broken else ''}{finding.what}: {finding.seen}")
                found.append(finding)
    return found, earlier


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}", flush=True)


def run() -> int:
    parser = argparse.ArgumentParser(
        prog="make machines", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=10, metavar="N", help="calls a second; default: 10")
    parser.add_argument("--from", dest="earlier", default="HEAD^", metavar="COMMIT", help="default: HEAD^")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the table into this page")
    parser.add_argument("--port", type=int, default=FIRST_PORT, help=f"the first of nine; default: {FIRST_PORT}")
    options = parser.parse_args()
    network.apart()
    findings, earlier = look(options.earlier, options.rate, options.port)
    rows = [page.row([each.what, each.seen, "**broken**" if each.broken else "kept"]) for each in findings]
    table = "\n".join(["| What | Seen | Promise |", "|---|---|---|", *rows])
    text = f"{page.conditions(f'an upgrade from {earlier}, {options.rate:g} calls a second')}\n\n{table}"
    print(f"\n{text}\n")
    if options.write:
        page.write(options.write, "machines", text)
    return int(any(each.broken for each in findings))


def main() -> int:
    try:
        return run()
    except (CannotRun, CannotStart, DoesNotAnswer) as error:
        print(f"make machines: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
