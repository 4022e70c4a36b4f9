"""Metrics for a monitoring system, in Prometheus' text format.

All values are read from the database, so that every process on every machine reports the same. The exception is the
spool, which is a folder of this machine.
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable
from decimal import Decimal

import psycopg
from django.conf import settings

from keys.connection import connect
from usage import spool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Reads small tables only, so that scraping stays cheap.
READ = """
SELECT o.calls, o.usd, h.calls, h.usd, (SELECT count(*) FROM usage_retained)
FROM (SELECT count(*) AS calls, coalesce(sum(cost - held), 0) AS usd FROM usage_overrun) AS o,
    (SELECT count(*) AS calls, coalesce(sum(ceiling), 0) AS usd FROM usage_hold) AS h
"""

# Name, type and help text of each metric, in the order of the values that `read` returns.
METRICS = (
    ("gateway_overruns_total", "counter", "Calls that cost more than their hold: should stay 0."),
    ("gateway_overruns_usd_total", "counter", "USD that calls cost beyond their holds: should stay 0."),
    ("gateway_open_holds", "gauge", "Calls and batches in progress that money is held for."),
    ("gateway_open_holds_usd", "gauge", "USD held for calls and batches in progress."),
    ("gateway_retained_calls", "gauge", "Interrupted calls for which budgets still keep the rest of the hold."),
    ("gateway_spooled_settlements", "gauge", "Settlements in this machine's spool, which the next start writes."),
    ("gateway_dead_letters", "gauge", "Settlements in this machine's spool that can't be written: should stay 0."),
)


async def answer(authorization: bytes) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """HTTP status, body and headers of the answer to a request with this `Authorization` header."""
    plain = (b"content-type", CONTENT_TYPE.encode())
    if not allowed(authorization):
        return 401, b"A bearer token is needed: send METRICS_TOKEN.\n", [plain, (b"www-authenticate", b"Bearer")]
    try:
        return 200, text(await read()), [plain]
    except psycopg.Error:
        return 503, b"The database doesn't answer.\n", [plain]


def allowed(authorization: bytes) -> bool:
    """Whether the header has the deployment's token. Compares in constant time: timing must not leak the token."""
    scheme, _, given = authorization.partition(b" ")
    token: str = settings.CONFIGURATION.metrics_token
    return bool(token) and scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token.encode())


async def read() -> list[Decimal | int]:
    """The values of `METRICS`.

    Raises:
        psycopg.Error: the database can't be reached, or doesn't answer in time.
    """
    async with await connect("gateway metrics") as link:
        cursor = await link.execute(READ)
        counted = await cursor.fetchone()
    return [*(counted or ()), *await asyncio.to_thread(spool.waiting)]


def text(values: Iterable[Decimal | int]) -> bytes:
    """The metrics in Prometheus' text format."""
    lines = []
    for (name, kind, words), value in zip(METRICS, values, strict=True):
        lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}", f"{name} {value:f}"]
    return "\n".join([*lines, ""]).encode()
