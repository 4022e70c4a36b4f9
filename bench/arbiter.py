"""Measures what the arbiter's transactions cost the database: `make bench-arbiter`. It only prints figures.

A figure is the CPU time of PostgreSQL's process for the connection, in microseconds per call (one admission and one
settlement). A single call takes two transactions; with groups of 32, each transaction settles the calls that the one
before it admitted. Each figure is the median of nine interleaved rounds: every case runs once, then all run again. A
round lasts until it has used `--seconds` of CPU time.

    bench/arbiter.py [--server URL] [--beside FOLDER] [--only "no budget"] [--rounds 9] [--seconds 2] [--keys 10,100000]

`--server`: create the databases on this server, which must run on this machine. Default: a throwaway embedded server.
`--beside`: also measure the arbiter of another checkout of the gateway. It can be given several times.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psycopg

ROOT = Path(__file__).resolve().parent.parent
ASK = "SELECT * FROM usage_group(%s, %s, %s::jsonb, %s::uuid[], %s::jsonb)"
GROUPS = (1, 32)
# The number of keys that call in turn. As many more keys have no budget, and as many have one.
CALLERS = 10
# What applies to a key's calls, and the first id of such keys.
BUDGETS = {"no budget": 1_000_000, "1 budget": 2_000_000, "3 budgets, 2 limits": 1}
TICKS = os.sysconf("SC_CLK_TCK")

KEYS = """
INSERT INTO keys_customer (id, name, paused, created_at) VALUES (1, 'Acme', false, now()) ON CONFLICT DO NOTHING;
INSERT INTO keys_virtualkey (id, name, customer_id, owner, active, allowed_models, denied_models, labels, passthrough,
    revision, created_at)
SELECT n, 'key ' || n, 1, '', true, '{}', '{}', '{}', false, 1, now() FROM generate_series(%(first)s, %(last)s) n;
INSERT INTO keys_credential (id, kind, name, virtual_key_id, digest, pepper, first, last, created_at)
SELECT n, 'virtual_key', 'key ' || n, n, decode(md5(n::text), 'hex'), '0', '', '', now()
FROM generate_series(%(first)s, %(last)s) n;
"""
OWN_BUDGETS = """
INSERT INTO usage_budget (virtual_key_id, model_patterns, active, unit, amount, period, rolling, enforcement,
    thresholds)
SELECT n, '{}', true, 'usd', 1000000000, period, false, 'hard', '{50,80,100}'
FROM generate_series(%(first)s, %(last)s) n, unnest(%(periods)s::text[]) period;
INSERT INTO usage_limit (virtual_key_id, model_patterns, active, kind, rate, count_cached)
SELECT n, '{}', true, kind, 1000000000000, false
FROM generate_series(%(first)s, %(last)s) n, unnest(%(kinds)s::text[]) kind;
"""


@dataclass
class Engine:
    """An arbiter in a database of its own, with a connection like a web process's."""

    name: str
    link: psycopg.Connection[Any]
    knows_budgets: bool
    process: Any = None

    def start(self) -> None:
        """Register the engine as a web process."""
        from usage.request_ids import new_id

        self.process = new_id()
        self.link.execute("INSERT INTO usage_process (id, host, pid) VALUES (%s, 'bench', 1)", [self.process])
        self.link.execute("INSERT INTO usage_writer (process, fence, groups) VALUES (%s, 1, 0)", [self.process])

    def ask(self, settlements: list[Any], admissions: list[Any]) -> None:
        """Submit one group; every admission must be granted."""
        values = [self.process, 1, encoded(settlements), None, encoded(admissions)]
        verdicts = self.link.execute(ASK, values, prepare=True).fetchall()
        assert len(verdicts) == len(admissions), verdicts
        assert all(verdict[1] == "admitted" for verdict in verdicts), verdicts

    def cpu(self) -> float:
        """CPU seconds that the server's process for this connection has used."""
        fields = Path(f"/proc/{self.link.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@dataclass
class Case:
    """Calls of one kind on one engine, and the results of its rounds in microseconds per call."""

    engine: Engine
    budgets: str
    group: int
    rounds: list[float] = field(default_factory=list)

    def measure(self, seconds: float) -> None:
        """Run one more round."""
        callers = itertools.cycle(range(BUDGETS[self.budgets], BUDGETS[self.budgets] + CALLERS))
        self._calls(callers, 4)  # warm up: prepared plans and caches
        began, calls = self.engine.cpu(), 0
        while (used := self.engine.cpu() - began) < seconds:
            calls += self._calls(callers, max(4, 256 // self.group))
        self.rounds.append(used / calls * 1e6)

    def _calls(self, callers: Iterator[int], groups: int) -> int:
        running: list[Any] = []
        for _ in range(groups):
            admissions = [admission(next(callers)) for _ in range(self.group)]
            self.engine.ask([settlement(each) for each in running], admissions)
            running = admissions
            if self.group == 1:
                self.engine.ask([settlement(each) for each in running], [])
                running = []
        if running:
            self.engine.ask([settlement(each) for each in running], [])
        return groups * self.group


def encoded(members: list[Any]) -> str | None:
    return msgspec.json.encode(members).decode() if members else None


def admission(key: int) -> Any:
    """An admission as a web process sends it."""
    from decimal import Decimal

    from usage.arbitration import Admission
    from usage.request_ids import new_id

    return Admission(
        id=new_id(),
        credential=key,
        revision=1,
        catalogue_revision=1,
        hold=True,
        endpoint="messages",
        requested_model="claude-opus-5-5",
        stream=True,
        provider="anthropic",
        ceiling=Decimal("0.253117"),
        input_tokens=812,
        input_cost=Decimal("0.00406"),
        input_ceiling=2390,
        max_tokens=1024,
        output_price=Decimal(25),
        price_version="catalogue 2026-11-01",
        client_labels={"request_id": "3f1c9a"},
    )


def settlement(call: Any) -> Any:
    """The settlement of a call."""
    from decimal import Decimal

    from usage.arbitration import Settlement

    attempt = {
        "provider_key": "main",
        "model": call.requested_model,
        "http_status": 200,
        "error_type": "",
        "duration_ms": 812,
        "cost": "0.014935",
    }
    return Settlement(
        id=call.id,
        model=call.requested_model,
        provider=call.provider,
        provider_request_id="req_011CV1",
        status="completed",
        http_status=200,
        stop_reason="end_turn",
        input_tokens=787,
        output_tokens=440,
        service_tier="standard",
        cost=Decimal("0.014935"),
        price_version=call.price_version,
        time_to_first_byte_ms=512,
        duration_ms=812,
        attempts=[attempt],
    )


def migrate(checkout: Path, url: str, folder: str) -> None:
    """Create a checkout's tables and functions in an empty database."""
    environment = os.environ | {"DATABASE_URL": url, "VAR_DIR": folder, "ENV_FILE": os.devnull}
    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=checkout, env=environment, check=True)


@contextlib.contextmanager
def engine(name: str, server: str, checkout: Path, folder: str, keys: int) -> Iterator[Engine]:
    """A checkout's arbiter with `keys` keys of three budgets each, or without if the checkout knows no budgets."""
    from keys.connection import OPTIONS

    database = f"bench_arbiter_{os.getpid()}_{''.join(filter(str.isalnum, name))}"
    url = urlsplit(server)._replace(path=f"/{database}").geturl()
    with psycopg.connect(server, autocommit=True) as maintenance:
        maintenance.execute(f'CREATE DATABASE "{database}" TEMPLATE template0')
        try:
            migrate(checkout, url, folder)
            with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as link:
                knows_budgets = fill(link, keys)
                path = search_path(link)
            # The benchmark measures neither waiting for the disk nor plans that were made for empty tables.
            settings = f"{OPTIONS} -c synchronous_commit=off -c enable_seqscan=off -c search_path={path}"
            with psycopg.connect(url, autocommit=True, options=settings) as link:
                made = Engine(name, link, knows_budgets)
                made.start()
                yield made
        finally:
            # Without FORCE, which ends a running autovacuum: only a superuser may do that.
            maintenance.execute(f'DROP DATABASE "{database}"')


def search_path(link: psycopg.Connection[Any]) -> str:
    """Where a connection finds this engine's functions: in a schema of their own, unless its checkout is older."""
    found = link.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'arbiter\\_%'").fetchone()
    return f"{found[0]},public" if found else "public"


def fill(link: psycopg.Connection[Any], keys: int) -> bool:
    """Create customers, keys and their budgets and limits. False if the checkout has no budgets yet."""
    three: dict[str, Any] = {"periods": ["day", "month", "year"], "kinds": ["rpm", "output_tpm"]}
    terms: dict[str, dict[str, Any]] = {
        "no budget": {"periods": [], "kinds": []},
        "1 budget": {"periods": ["month"], "kinds": []},
    }
    budgets = link.execute("SELECT to_regclass('usage_budget') IS NOT NULL").fetchone() == (True,)
    for name, first in BUDGETS.items():
        values: dict[str, Any] = {"first": first, "last": first + (CALLERS if name in terms else keys) - 1}
        link.execute(KEYS, values)
        if budgets:
            link.execute(OWN_BUDGETS, values | terms.get(name, three))
    link.execute("VACUUM ANALYZE")
    return budgets


def table(cases: list[Case]) -> Iterator[str]:
    """The results as a Markdown table: a line per kind of key and group size, a column per engine."""
    engines = list(dict.fromkeys(case.engine.name for case in cases))
    yield f"| Calls | at once | {' | '.join(engines)} |"
    yield f"|---|---|{'---|' * len(engines)}"
    for budgets, group in itertools.product(BUDGETS, GROUPS):
        shown = []
        for name in engines:
            found = [c.rounds for c in cases if (c.engine.name, c.budgets, c.group) == (name, budgets, group)]
            shown += [f"{statistics.median(rounds):.0f} ({min(rounds):.0f}–{max(rounds):.0f})" for rounds in found] or [
                "–"
            ]
        if shown == ["–"] * len(engines):
            continue
        yield f"| {budgets} | {group} | {' | '.join(shown)} |"


@contextlib.contextmanager
def embedded() -> Iterator[str]:
    from gateway_project import embedded_postgres

    with (
        tempfile.TemporaryDirectory(prefix="gateway-bench-", dir="/tmp") as folder,
        embedded_postgres.running(Path(folder)) as url,
    ):
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--server", metavar="URL", help="a PostgreSQL on this machine; default: a throwaway one")
    parser.add_argument(
        "--beside", type=Path, action="append", default=[], metavar="FOLDER", help="another checkout to measure too"
    )
    parser.add_argument("--only", choices=BUDGETS, help="measure only this kind of key")
    parser.add_argument("--rounds", type=int, default=9, help="default: 9")
    parser.add_argument("--seconds", type=float, default=2, help="CPU seconds per round; default: 2")
    parser.add_argument("--keys", default="10,100000", help="numbers of keys, one engine each; default: 10,100000")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.environ |= {"ENV_FILE": os.devnull, "DJANGO_SETTINGS_MODULE": "gateway_project.settings"}
    os.environ["DATABASE_URL"] = "postgresql://unused@127.0.0.1/unused"
    with contextlib.ExitStack() as resources:
        folder = resources.enter_context(tempfile.TemporaryDirectory())
        os.environ["VAR_DIR"] = folder
        server = options.server or resources.enter_context(embedded())
        engines: list[Callable[[], Any]] = []
        for beside in options.beside:
            engines.append(lambda beside=beside: engine(beside.name, server, beside, folder, CALLERS))  # type: ignore[misc]
        for keys in map(int, options.keys.split(",")):
            engines.append(lambda keys=keys: engine(f"{keys:,} keys", server, ROOT, folder, keys))  # type: ignore[misc]
        cases = [
            Case(made, budgets, group)
            for made in [resources.enter_context(make()) for make in engines]
            for budgets, group in itertools.product(BUDGETS, GROUPS)
            if options.only in (None, budgets) and (made.knows_budgets or budgets == "no budget")
        ]
        for number in range(options.rounds):
            for case in cases:
                case.measure(options.seconds)
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        print("\n".join(table(cases)), flush=True)


if __name__ == "__main__":
    main()
