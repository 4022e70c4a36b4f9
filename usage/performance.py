"""How well provider keys perform, from the attempts of the latest calls: for the adaptive weights of virtual keys.

A provider key keeps a share of its weight. The share is the part of its attempts that the provider answered, reduced
further if its first bytes are slow. Shares are powers of one half, so that they change seldom: a change moves
conversations to another provider key, away from the prompts that the provider has cached for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models.functions import Now

from keys.models import Performance, VirtualKey

# The latest calls that are read: at most CALLS, from the last SECONDS. With fewer than LEAST attempts, a share stays.
CALLS = 5000
SECONDS = 600
LEAST = 10
# The smallest share: with fewer calls, a recovery would go unnoticed.
SMALLEST = 1 / 16
# A provider key is slow if its median time to the first byte exceeds SLOW times that of the fastest plus NOT_FELT_MS.
SLOW = 1.5
NOT_FELT_MS = 50.0
# A share changes only if the exact value differs by this factor.
OFF = 1.8

# Errors that count as the provider's failure to answer: kinds of `messages_api.upstream.client.UpstreamError`.
UNANSWERED = (
    "not_connected",
    "no_answer",
    "no_answer_in_time",
    "no_token",
    "broken_off",
    "bad_answer",
    "bad_compression",
    "bad_header",
    "bad_http",
    "too_long",
)

LATEST = """
SELECT p.id, a.model, count(*), count(*) FILTER (WHERE failed), percentile_cont(0.5)
    WITHIN GROUP (ORDER BY a.time_to_first_byte_ms) FILTER (WHERE NOT failed AND a.time_to_first_byte_ms IS NOT NULL)
FROM (SELECT attempts, ended_at FROM usage_ledgerentry ORDER BY xid DESC LIMIT %(calls)s) AS l,
    jsonb_to_recordset(l.attempts) AS a (
        provider_key_id bigint, provider_key text, model text, http_status integer, error_type text,
        time_to_first_byte_ms double precision),
    LATERAL (SELECT a.http_status IN (401, 402, 403, 408, 429) OR a.http_status >= 500
        OR coalesce(a.http_status, 200) = 200 AND a.error_type = ANY (%(unanswered)s)) AS f (failed)
    JOIN keys_providerkey p ON true
-- Rows from before attempts had ids have only the provider key's name at that time.
WHERE (p.id = a.provider_key_id OR a.provider_key_id IS NULL AND p.name = a.provider_key)
    AND l.ended_at > clock_timestamp() - make_interval(secs => %(seconds)s)
GROUP BY p.id, a.model
"""


@dataclass(frozen=True, slots=True)
class AttemptStatistics:
    """The result of the attempts with a provider key and model. `first_byte_ms` is the median; None if unknown."""

    provider_key: int
    model: str
    attempts: int
    failures: int
    first_byte_ms: float | None


def observe() -> None:
    """Update the performance of provider keys, if any virtual key has adaptive weights; else delete it."""
    seen = latest() if VirtualKey.objects.filter(adaptive_weights=True).exists() else []
    with transaction.atomic():
        before = {(row.provider_key_id, row.model): row.share for row in Performance.objects.select_for_update()}
        found = shares(seen, before)
        for each in seen:
            Performance.objects.update_or_create(
                provider_key_id=each.provider_key,
                model=each.model,
                defaults={
                    "attempts": each.attempts,
                    "failures": each.failures,
                    "first_byte_ms": each.first_byte_ms,
                    "share": found[each.provider_key, each.model],
                    "at": Now(),
                },
            )
        gone = [row.pk for row in Performance.objects.all() if (row.provider_key_id, row.model) not in found]
        Performance.objects.filter(pk__in=gone).delete()


def latest() -> list[AttemptStatistics]:
    """The results of the latest calls, per provider key and model."""
    with connection.cursor() as cursor:
        cursor.execute(LATEST, {"calls": CALLS, "seconds": SECONDS, "unanswered": list(UNANSWERED)})
        return [AttemptStatistics(*row) for row in cursor.fetchall()]


def shares(seen: Iterable[AttemptStatistics], before: Mapping[tuple[int, str], float]) -> dict[tuple[int, str], float]:
    """The share of its weight that each provider key keeps, per model.

    Args:
        before: the current shares.
    """
    seen = list(seen)
    fastest: dict[str, float] = {}
    for each in seen:
        if each.first_byte_ms is not None and each.attempts - each.failures >= LEAST:
            fastest[each.model] = min(each.first_byte_ms, fastest.get(each.model, math.inf))
    return {
        (each.provider_key, each.model): share(
            each, fastest.get(each.model), before.get((each.provider_key, each.model), 1.0)
        )
        for each in seen
    }


def share(seen: AttemptStatistics, fastest: float | None, before: float) -> float:
    """The share of one provider key for one model: a power of one half."""
    if seen.attempts < LEAST:
        return before
    answered = 1 - seen.failures / seen.attempts
    slow = 1.0
    if fastest is not None and seen.first_byte_ms and seen.attempts - seen.failures >= LEAST:
        slow = min(1.0, (SLOW * fastest + NOT_FELT_MS) / seen.first_byte_ms)
    exact = max(answered * slow, SMALLEST)
    if before / OFF < exact < before * OFF:
        return before
    return float(2 ** min(0, max(round(math.log2(exact)), round(math.log2(SMALLEST)))))
