"""What a monitoring system asks for, in Prometheus' text format.

All but the spool, which is this machine's, comes from the database: every process of every machine says the same.
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

# Of small tables only.
READ = """
SELECT o.calls, o.usd, h.calls, h.usd, (SELECT count(*) FROM usage_retained)
FROM (SELECT count(*) AS calls, coalesce(sum(cost - held), 0) AS usd FROM usage_overrun) AS o,
    (SELECT count(*) AS calls, coalesce(sum(ceiling), 0) AS usd FROM usage_hold) AS h
"""

# A metric's name, its type and what it says, in the order of `read`.
METRICS = (
    ("gateway_overruns_total", "counter", "Calls that cost more than was held for them: should stay 0."),
    ("gateway_overruns_usd_total", "counter", "USD that they cost beyond what was held: should stay 0."),
    ("gateway_open_holds", "gauge", "Calls and batches under way that money is held for."),
    ("gateway_open_holds_usd", "gauge", "USD held for them."),
    ("gateway_retained_calls", "gauge", "Calls that nobody saw end, for which budgets still keep what was held."),
    ("gateway_spooled_settlements", "gauge", "Settlements in this machine's spool: the next start writes them."),
    ("gateway_dead_letters", "gauge", "Settlements in this machine's spool that can't be written: should stay 0."),
)


async def answer(authorization: bytes) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """The HTTP status, body and headers for whoever asks with this `Authorization` header."""
    plain = (b"content-type", CONTENT_TYPE.encode())
    if not allowed(authorization):
        return 401, b"A bearer token is needed: METRICS_TOKEN.\n", [plain, (b"www-authenticate", b"Bearer")]
    try:
        return 200, text(await read()), [plain]
    except psycopg.Error:
        return 503, b"The database doesn't answer.\n", [plain]


def allowed(authorization: bytes) -> bool:
    """Whether the header bears the deployment's token; how long it takes says nothing of that."""
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
    """Values of `METRICS`, as they are exposed."""
    lines = []
    for (name, kind, words), value in zip(METRICS, values, strict=True):
        lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}", f"{name} {value:f}"]
    return "\n".join([*lines, ""]).encode()
