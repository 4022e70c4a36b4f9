"""Metrics for a monitoring system, in Prometheus' text format.

What the deployment shares is read from the database: every process on every machine reports the same. Figures of
processes (usage/figures.py) and of the spool are those of this machine.
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings

from keys import sign_in
from keys.client_address import client_address, network_of
from keys.connection import connect
from usage import figures, spool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Labels of a series, and its value.
Sample = tuple[dict[str, Any], Decimal | int | float]

# Cells of customer, team and model with a series of their own, by their cost of the last day.
HIGHEST = 200
# For how many seconds the sums of the last day are kept: they are the only ones that cost the database something.
KEPT_SECONDS = 30.0
# Networks that have sent too many wrong tokens: they are refused from memory until their time is over.
MOST_NETWORKS = 1000

# Reads small tables only, so that scraping stays cheap.
READ = """
SELECT o.calls, o.usd, h.calls, h.usd, (SELECT count(*) FROM usage_retained),
    (SELECT coalesce(extract(epoch FROM clock_timestamp() - max(rolled_up_at)), 0) FROM usage_rollupstate),
    (SELECT count(*) FROM usage_delivery WHERE delivered_at IS NULL AND given_up_at IS NULL),
    (SELECT count(*) FROM usage_worker WHERE kind = 'worker' AND beat_at > clock_timestamp() - interval '3 minutes'),
    (SELECT coalesce(max(waited_ms), 0) / 1000.0 FROM usage_worker WHERE kind = 'worker'
        AND beat_at > clock_timestamp() - interval '3 minutes'),
    (SELECT count(*) FROM usage_process)
FROM (SELECT count(*) AS calls, coalesce(sum(cost - held), 0) AS usd FROM usage_overrun) AS o,
    (SELECT count(*) AS calls, coalesce(sum(ceiling), 0) AS usd FROM usage_hold) AS h
"""
# A cool-down that is over may still be waiting for its probe.
COOLDOWNS = """
SELECT p.name, c.model, c.reason, greatest(extract(epoch FROM c.until - clock_timestamp()), 0)
FROM keys_cooldown c JOIN keys_providerkey p ON p.id = c.provider_key_id
WHERE c.until > clock_timestamp() ORDER BY c.until DESC LIMIT 200
"""
# The last 24 hours by admission, in whole quarters of an hour.
DAY = f"""
WITH day AS (
    SELECT customer_id, team_id, model, sum(calls) AS calls, sum(coalesce(charge, cost)) AS usd,
        sum(input_tokens) AS input, sum(output_tokens) AS output, sum(cache_read_input_tokens) AS reads,
        sum(cache_creation_5m_input_tokens + cache_creation_1h_input_tokens) AS writes
    FROM usage_rollup WHERE bucket > now() - interval '24 hours' GROUP BY 1, 2, 3
), ranked AS (SELECT *, row_number() OVER (ORDER BY usd DESC, calls DESC, model) <= {HIGHEST} AS shown FROM day)
SELECT CASE WHEN shown THEN c.name ELSE 'other' END, CASE WHEN shown THEN coalesce(t.name, '') ELSE 'other' END,
    CASE WHEN shown THEN r.model ELSE 'other' END,
    sum(calls), sum(usd), sum(input), sum(output), sum(reads), sum(writes)
FROM ranked r LEFT JOIN keys_customer c ON c.id = r.customer_id LEFT JOIN keys_team t ON t.id = r.team_id
GROUP BY 1, 2, 3
"""  # noqa: S608 - a constant
# Calls of the last day that failed by whose fault, and those whose process died.
FAILED = """
SELECT coalesce(sum(our_errors), 0), coalesce(sum(caller_errors), 0), coalesce(sum(provider_errors), 0),
    coalesce(sum(calls) FILTER (WHERE status = 'interrupted'), 0)
FROM usage_rollup WHERE bucket > now() - interval '24 hours'
"""

# Name, type and help text of each metric without labels, in the order of the values that `read` returns.
METRICS = (
    ("gateway_overruns_total", "counter", "Calls that cost more than their hold: should stay 0."),
    ("gateway_overruns_usd_total", "counter", "USD that calls cost beyond their holds: should stay 0."),
    ("gateway_open_holds", "gauge", "Calls and batches in progress that money is held for."),
    ("gateway_open_holds_usd", "gauge", "USD held for calls and batches in progress."),
    ("gateway_retained_calls", "gauge", "Interrupted calls for which budgets still keep the rest of the hold."),
    ("gateway_rollup_lag_seconds", "gauge", "Seconds since the roll-ups last read the ledger."),
    ("gateway_alerts_waiting", "gauge", "Deliveries of alerts that wait for their next attempt."),
    ("gateway_workers", "gauge", "Celery workers with a sign of life in the last three minutes."),
    ("gateway_worker_wait_seconds", "gauge", "The longest time that a task has lately waited for a worker."),
    ("gateway_processes", "gauge", "Web processes that are registered with the arbiter."),
    ("gateway_spooled_settlements", "gauge", "Settlements in this machine's spool, which the next start writes."),
    ("gateway_dead_letters", "gauge", "Settlements in this machine's spool that can't be written: should stay 0."),
)
# The metrics with labels.
DAY_METRICS = (
    ("gateway_day_calls", "gauge", "Calls of the last 24 hours."),
    ("gateway_day_usd", "gauge", "USD that their owners owe for calls of the last 24 hours."),
    ("gateway_day_tokens", "gauge", "Tokens of the last 24 hours, by category."),
    ("gateway_day_errors", "gauge", "Calls of the last 24 hours that failed, by whose fault it was."),
    ("gateway_day_reaped_holds", "gauge", "Calls of the last 24 hours that were interrupted: their holds were reaped."),
    ("gateway_cooldown_seconds", "gauge", "Seconds that a provider key still cools down, by model and reason."),
)
PROCESS_METRICS = {
    "gateway_calls_total": ("counter", "Settled calls."),
    "gateway_errors_total": ("counter", "Settled calls that did not complete, by the type of error."),
    "gateway_refusals_total": ("counter", "Requests that became no call, by reason."),
    "gateway_overhead_seconds": ("histogram", "From a call's complete body to the first byte to its provider."),
    "gateway_time_to_first_byte_seconds": ("histogram", "From a call's plan to the first byte of its answer."),
    "gateway_call_seconds": ("histogram", "From a call's plan to its settlement."),
    "gateway_between_events_seconds": ("histogram", "How long a stream waited for each further piece."),
    "gateway_writer_group_size": ("histogram", "Admissions, settlements and releases in a group of the writer."),
    "gateway_writer_wait_seconds": ("histogram", "How long an admission waited for its verdict."),
    "gateway_loop_delay_seconds": ("histogram", "How late the event loop resumed a task that slept."),
    "gateway_memory_bytes": ("gauge", "Resident memory."),
    "gateway_open_files": ("gauge", "Open file descriptors."),
    "gateway_cpu_seconds_total": ("counter", "Seconds of processor time."),
    "gateway_open_calls": ("gauge", "Calls under way."),
    "gateway_writer_queue": ("gauge", "Admissions and settlements that wait for the writer."),
}

_refused_until = OrderedDict[str, float]()
_day: tuple[float, list[tuple[str, list[Sample]]]] = (-math.inf, [])


async def answer(scope: Any, role: str = "web") -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """HTTP status, body and headers of the answer to this request."""
    plain = (b"content-type", CONTENT_TYPE.encode())
    try:
        if not allowed(dict(scope["headers"]).get(b"authorization", b"")):
            if seconds := await count_wrong_token(client_address(scope)):
                retry = (b"retry-after", b"%d" % seconds)
                return 429, b"Too many requests with a wrong token.\n", [plain, retry]
            return 401, b"A bearer token is needed: send METRICS_TOKEN.\n", [plain, (b"www-authenticate", b"Bearer")]
        shared, day = await read(), await read_day()
    except psycopg.Error:
        return 503, b"The database doesn't answer.\n", [plain]
    processes = await asyncio.to_thread(lambda: list(figures.read(folder(), role)))
    return 200, text(shared, day, processes), [plain]


def folder() -> Path:
    """Where the processes of this machine leave their figures for each other."""
    return Path(settings.SPOOL_DIR) / "figures"


def allowed(authorization: bytes) -> bool:
    """Whether the header has the deployment's token. Compares in constant time: timing must not leak the token."""
    scheme, _, given = authorization.partition(b" ")
    token: str = settings.CONFIGURATION.metrics_token
    return bool(token) and scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token.encode())


async def count_wrong_token(address: str) -> int:
    """Count a wrong token of a network, as wrong tokens of the REST API are counted. Returns the seconds after which
    the network may try again if it has sent too many, else 0. A right token is never refused.

    Raises:
        psycopg.Error: the database can't be reached.
    """
    network = network_of(address)
    if (left := _refused_until.get(network, 0.0) - time.monotonic()) > 0:
        return math.ceil(left)
    limit = sign_in.NETWORK
    async with await connect("gateway metrics") as link:
        values = {"subject": sign_in.subject("metrics", network), "step": limit.step, "room": limit.room}
        cursor = await link.execute(sign_in.COUNT_ONE, values)
        await link.commit()
    if cursor.rowcount:
        return 0
    _refused_until[network] = time.monotonic() + limit.seconds
    while len(_refused_until) > MOST_NETWORKS:
        _refused_until.popitem(last=False)
    return limit.seconds


async def read() -> list[Decimal | int]:
    """The values of `METRICS`.

    Raises:
        psycopg.Error: the database can't be reached, or doesn't answer in time.
    """
    async with await connect("gateway metrics") as link:
        cursor = await link.execute(READ)
        counted = await cursor.fetchone()
    return [*(counted or ()), *await asyncio.to_thread(spool.waiting)]


async def read_day() -> list[tuple[str, list[Sample]]]:
    """The series of `DAY_METRICS`, in their order.

    Raises:
        psycopg.Error: as `read`.
    """
    global _day
    at, known = _day
    if time.monotonic() - at < KEPT_SECONDS:
        return known
    async with await connect("gateway metrics") as link:
        cells = await (await link.execute(DAY)).fetchall()
        failed = await (await link.execute(FAILED)).fetchone() or (0, 0, 0, 0)
        cooling = await (await link.execute(COOLDOWNS)).fetchall()
    calls, usd, tokens = list[Sample](), list[Sample](), list[Sample]()
    for customer, team, model, count, cost, *counts in cells:
        whose = {"customer": customer or "", "team": team, "model": model}
        calls.append((whose, count))
        usd.append((whose, cost))
        kinds = zip(("input", "output", "cache_read", "cache_write"), counts, strict=True)
        tokens += [({**whose, "kind": kind}, number) for kind, number in kinds]
    errors: list[Sample] = [({"whose": of}, n) for of, n in zip(("ours", "caller", "provider"), failed, strict=False)]
    waits: list[Sample] = [({"provider_key": k, "model": m, "reason": r}, left) for k, m, r, left in cooling]
    samples: tuple[list[Sample], ...] = (calls, usd, tokens, errors, [({}, failed[3])], waits)
    found = [(metric[0], each) for metric, each in zip(DAY_METRICS, samples, strict=True)]
    _day = time.monotonic(), found
    return found


def text(
    values: Iterable[Decimal | int],
    day: Iterable[tuple[str, list[Sample]]] = (),
    processes: Iterable[dict[str, Any]] = (),
) -> bytes:
    """The metrics in Prometheus' text format."""
    lines = []
    for (name, kind, words), value in zip(METRICS, values, strict=True):
        lines += [*head(name, kind, words), f"{name} {value:f}"]
    by_name = dict(day)
    for name, kind, words in DAY_METRICS:
        lines += head(name, kind, words)
        lines += [f"{name}{figures.labelled(labels)} {value:f}" for labels, value in by_name.get(name, ())]
    processes = list(processes)
    for name, (kind, words) in PROCESS_METRICS.items():
        lines += head(name, kind, words)
        for process in processes:
            lines += of_process(name, process)
    return "\n".join([*lines, ""]).encode()


def head(name: str, kind: str, words: str) -> list[str]:
    """The two lines before a metric's values."""
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]


def of_process(name: str, process: dict[str, Any]) -> Iterator[str]:
    """The lines of one process's figure."""
    which = {"process": process["process"]}
    if name in process["gauges"]:
        yield f"{name}{figures.labelled(which)} {process['gauges'][name]}"
    for labels, value in process["counters"].get(name, ()):
        yield f"{name}{figures.labelled(which | labels)} {value}"
    if name in process["histograms"]:
        bounds, counts, total = process["histograms"][name]
        for bound, count in zip([*bounds, "+Inf"], accumulate(counts), strict=True):
            yield f"{name}_bucket{figures.labelled(which | {'le': bound})} {count}"
        yield f"{name}_sum{figures.labelled(which)} {total:f}"
        yield f"{name}_count{figures.labelled(which)} {sum(counts)}"
