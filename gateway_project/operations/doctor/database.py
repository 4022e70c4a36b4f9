"""The database: whether it answers, its version and settings, its clock, what is in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
from django.conf import settings

from gateway_project import unavailable
from gateway_project.first_run import OLDEST_POSTGRES
from gateway_project.operations.doctor.findings import FAULT, OK, WARNING, Finding, attempt
from keys.connection import parameters
from keys.keyring import UnreadableSecret, decrypt
from usage import functions, readiness, restored_copies
from usage.workers import ALIVE

Link = psycopg.Connection[Any]
Found = Iterator[tuple[Any, str, str]]

# Connections that a web process may open: writer, heartbeat, readers, health; and those of each page.
OF_A_PROCESS = 6
# Settings without which a commit may be lost, or a table may grow without end; what to set them to.
NEEDED = {
    "fsync": ("on", "a crash of the machine can destroy the database"),
    "full_page_writes": ("on", "a crash of the machine can destroy pages of the database"),
    "autovacuum": ("on", "tables grow without end, and calls become slower"),
    "track_counts": ("on", "autovacuum does nothing without it"),
    "default_transaction_read_only": ("off", "nothing can be written"),
}
# Ages of the oldest transaction id at which PostgreSQL is in danger of refusing writes (at 2.1 billion).
OLD = 1_000_000_000
OPEN_SECONDS = 300
CLOCK_WARNING, CLOCK_FAULT = 1.0, 5.0

SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)"
CONNECTIONS = """
SELECT current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int AS possible,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS open
"""
OLDEST = "SELECT max(age(datfrozenxid))::bigint FROM pg_database"
LONG = """
SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::int FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND clock_timestamp() - xact_start > make_interval(secs => %s)
"""
PREPARED = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"
OTHERS = """
SELECT count(*), count(*) FILTER (WHERE arbiter <> %s) FROM usage_process
WHERE heartbeat_at > clock_timestamp() - make_interval(secs => %s)
"""
WORKERS = "SELECT kind, count(*) FROM usage_worker WHERE beat_at > clock_timestamp() - %s::interval GROUP BY kind"
ROLLED_UP = "SELECT extract(epoch FROM clock_timestamp() - rolled_up_at)::int FROM usage_rollupstate"
KEYS = """
SELECT p.name, p.provider, p.active, p.secret_ciphertext,
    (SELECT count(*) FROM keys_cooldown c WHERE c.provider_key_id = p.id AND c.until > clock_timestamp())
FROM keys_providerkey p ORDER BY p.name
"""


def examine() -> Iterator[Finding]:
    """Every check of the database; only the first where it doesn't answer."""
    try:
        link = psycopg.connect(**(parameters() | {"connect_timeout": 5}), autocommit=True)
    except psycopg.Error as error:
        says = unavailable.explain(error) or f"it can't be reached ({type(error).__name__})"
        yield Finding("database", FAULT, says, "everything that needs it was left out below")
        return
    with link:
        link.execute("SET statement_timeout = '5s'")
        for name, check in CHECKS:
            yield from attempt(name, partial(check, link))


def _row(link: Link, query: str, *values: object) -> Any:
    return link.execute(query.encode(), values).fetchone()


def _version(link: Link) -> Found:
    version = link.info.server_version
    if version // 10000 < OLDEST_POSTGRES:
        yield FAULT, f"PostgreSQL {version // 10000} is too old", f"use version {OLDEST_POSTGRES} or later"
    elif _row(link, "SELECT pg_is_in_recovery()")[0]:
        yield FAULT, "it is a standby, which takes no writes", "let DATABASE_URL name the primary"
    else:
        yield OK, f"PostgreSQL {version // 10000}.{version % 10000} answers", ""
    if link.info.host and not link.info.host.startswith("/") and not link.pgconn.ssl_in_use:
        local = link.info.hostaddr in ("127.0.0.1", "::1")
        if not local:
            yield WARNING, "the connection is not encrypted", "add ?sslmode=verify-full to DATABASE_URL"


def _settings(link: Link) -> Found:
    found = dict(link.execute(SETTINGS, [[*NEEDED, "synchronous_commit"]]).fetchall())
    wrong = False
    for name, (value, because) in NEEDED.items():
        if found[name] != value:
            wrong = True
            yield FAULT, f"{name} is {found[name]}: {because}", f"ALTER SYSTEM SET {name} = {value}; then reload"
    if found["synchronous_commit"] in ("off", "local"):
        wrong = True
        yield (
            WARNING,
            f"synchronous_commit is {found['synchronous_commit']}: what pages and tasks write can be lost in a crash "
            "(calls set it to on themselves)",
            "ALTER SYSTEM RESET synchronous_commit; then reload",
        )
    if not wrong:
        yield OK, "the settings keep what is committed", ""


def _connections(link: Link) -> Found:
    possible, opened = _row(link, CONNECTIONS)
    given = settings.CONFIGURATION
    needed = given.web_processes * (OF_A_PROCESS + given.pages_of_a_process) + 10 if given.serves_web else 10
    mend = "raise max_connections, or lower WEB_PROCESSES or PAGES_AT_ONCE"
    if possible < needed:
        yield FAULT, f"it takes {possible} connections, and this machine may need {needed}", mend
    elif opened > possible * 0.8:
        yield WARNING, f"{opened} of {possible} connections are open", mend
    else:
        yield OK, f"{opened} of {possible} connections are open; this machine may need {needed}", ""


def _transactions(link: Link) -> Found:
    age = _row(link, OLDEST)[0]
    if age > OLD:
        yield FAULT, f"the oldest transaction id is {age:,} old, and writes end at 2.1 billion", "VACUUM (FREEZE) now"
    count, longest = _row(link, LONG, OPEN_SECONDS)
    if count:
        yield (
            WARNING,
            f"a transaction has been open for {longest} s: roll-ups wait for it, and tables grow",
            "find it in pg_stat_activity, and end it",
        )
    if prepared := _row(link, PREPARED)[0]:
        yield WARNING, f"{prepared} prepared transactions hold roll-ups back", "commit or roll them back"
    if age <= OLD and not count and not prepared:
        yield OK, "no transaction is open for long", ""


def _clock(link: Link) -> Found:
    before = time.time()
    there = _row(link, "SELECT clock_timestamp()")[0].timestamp()
    after = time.time()
    apart = there - (before + after) / 2
    # A difference within the time of the round trip means nothing.
    apart = 0.0 if abs(apart) <= (after - before) / 2 else apart
    shown = datetime.fromtimestamp(there, UTC)
    if abs(apart) > CLOCK_FAULT:
        says = f"the database's clock ({shown:%Y-%m-%d %H:%M:%S} UTC) is {apart:+.1f} s from this machine's"
        yield FAULT, says, "run NTP on both machines"
    elif abs(apart) > CLOCK_WARNING:
        yield WARNING, f"the database's clock is {apart:+.1f} s from this machine's", "run NTP on both machines"
    else:
        yield OK, "this machine and the database have the same time", ""


def _migrations(link: Link) -> Found:
    try:
        applied = set(link.execute("SELECT app, name FROM django_migrations").fetchall())
    except psycopg.errors.UndefinedTable:
        yield FAULT, "the database is empty", "run manage.py migrate, or make run"
        return
    code = readiness.migrations_of_code()
    missing = sorted(".".join(each) for each in code - applied)
    newer = sorted(".".join(each) for each in applied - code if each[0] in {app for app, _ in code})
    if missing:
        yield FAULT, f"{len(missing)} migrations are missing, from {missing[0]} on", "run manage.py migrate"
    elif link.execute(functions.IS_MADE, [functions.SCHEMA]).fetchone() != (True,):
        yield FAULT, f"the arbiter of this version ({functions.SCHEMA}) is missing", "run manage.py migrate"
    elif newer:
        yield WARNING, f"the database is of a newer version ({newer[-1]})", "upgrade this machine's code"
    else:
        yield OK, "tables and arbiter are of this version", ""


def _processes(link: Link) -> Found:
    alive, others = _row(link, OTHERS, functions.SCHEMA, settings.CONFIGURATION.lease_seconds)
    if others:
        yield WARNING, f"{others} of {alive} web processes run another version", "finish the upgrade: restart them"
    elif not alive:
        yield WARNING, "no web process is alive, so no call is served", "start the gateway"
    else:
        yield OK, f"{alive} web processes are alive, all of this version", ""


def _workers(link: Link) -> Found:
    alive = dict(link.execute(WORKERS, [ALIVE]).fetchall())
    if not alive.get("worker"):
        yield FAULT, "no worker is alive: nothing is rolled up, sent or tended", "start a machine with ROLES=worker"
    if alive.get("beat", 0) != 1:
        says = f"{alive.get('beat', 0)} processes of beat are alive, and one is needed"
        yield (FAULT if not alive.get("beat") else WARNING), says, "let one machine have the role beat"
    lag = _row(link, ROLLED_UP)
    if lag is not None and lag[0] is not None and lag[0] > 2 * 3600:
        yield WARNING, f"roll-ups are {lag[0] // 3600} h old", "see the worker's log"
    if alive.get("worker") and alive.get("beat") == 1:
        yield OK, f"beat and {alive['worker']} workers are alive", ""


def _copy(link: Link) -> Found:
    if link.execute(readiness.WAITS).fetchone() is not None:
        yield FAULT, restored_copies.SAYS, "make sure that the old gateway is gone, and run that command"
    elif (row := link.execute("SELECT paused FROM keys_gateway").fetchone()) and row[0]:
        yield WARNING, "the whole gateway is paused", "resume it, under Settings"
    else:
        yield OK, "calls are taken", ""


def _provider_keys(link: Link) -> Found:
    rows = link.execute(KEYS).fetchall()
    wrong = False
    for name, provider, active, ciphertext, cooling in rows:
        try:
            if ciphertext:
                decrypt(ciphertext)
        except UnreadableSecret as error:
            wrong = True
            yield FAULT, f"“{name}”: {error}", "restore the master key, or set the secret again"
            continue
        if not active:
            wrong = True
            yield WARNING, f"“{name}” ({provider}) is switched off, or the provider refuses it", "see its page"
        elif cooling:
            wrong = True
            yield WARNING, f"“{name}” ({provider}) has {cooling} cool-downs", "see its page for the reason"
    if not rows:
        yield WARNING, "there is no provider key, so no model can be called", "run manage.py add_provider_key"
    elif not wrong:
        yield OK, f"{len(rows)} provider keys can be used", ""


CHECKS = (
    ("database", _version),
    ("database settings", _settings),
    ("connections", _connections),
    ("transactions", _transactions),
    ("clock", _clock),
    ("migrations", _migrations),
    ("restored copy", _copy),
    ("web processes", _processes),
    ("workers", _workers),
    ("provider keys", _provider_keys),
)
