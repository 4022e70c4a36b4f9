"""An estimate of what cache writes cost that were never read: of those in conversations that name themselves.

Claude Code sends the number of its session with each call. A write counts as never read if no later call of the same
virtual key, session and model read anything from a cache before the write expired, 5 minutes or an hour after its call
ended. What other conversations read of it can't be seen, so this is an estimate. Writes of calls without a session are
counted apart.

Roll-ups don't know sessions, so this reads the ledger, and only if the range has few calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Case, F, Q, QuerySet, TextField, Value, When
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce

from keys import patterns
from keys.model_names import fold
from keys.visibility import visible
from usage import export
from usage.ledger_dimensions import FIELDS, with_dimensions
from usage.models import LedgerEntry
from usage.questions import FOLDED_MODEL, Question
from usage.reporting.asked import Amount, Asked
from usage.reporting.lines import Ask
from usage.splits import CATEGORIES

SESSION = "claude_code_session"
LONGEST = timedelta(hours=1)
# What has an index in the ledger.
INDEXED = ("customer", "team", "key")
PLACES = [CATEGORIES.index(name) + 1 for name in ("cache_write_5m", "cache_write_1h")]
# From the latest call back: the first reads after a call are those before it.
STATEMENT = """
SELECT count(*), sum(five + hour), sum(five + hour) FILTER (WHERE session <> ''),
    sum(five) FILTER (WHERE session <> '' AND (read_at IS NULL OR read_at > ended_at + interval '5 minutes')),
    sum(hour) FILTER (WHERE session <> '' AND (read_at IS NULL OR read_at > ended_at + interval '1 hour'))
FROM (
    SELECT f.session, f.admitted_at, f.ended_at, coalesce(f.split[{}], 0) AS five, coalesce(f.split[{}], 0) AS hour,
        min(f.admitted_at) FILTER (WHERE f.cache_read_input_tokens > 0) OVER (
            PARTITION BY f.virtual_key_id, f.session, f.folded ORDER BY f.admitted_at DESC, f.id DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS read_at
    FROM ({}) AS f
) AS w WHERE admitted_at < %s
"""


@dataclass(frozen=True, slots=True)
class UnreadWrites:
    """USD of cache writes.

    Attributes:
        written: of all calls.
        known: of calls whose conversation is known.
        unread: of these, what was never read.
        calls: how many calls were looked at.
    """

    written: Decimal
    known: Decimal
    unread: Decimal
    calls: int


def unread_writes(asked: Asked, user: Any, ask: Ask, amount: Amount, most_rows: int) -> UnreadWrites | None:
    """The estimate; None: the range has too many calls, or this person sees no calls.

    Args:
        most_rows: of the ledger that may be read.
    """
    where = {name: values for name, values in asked.where.items() if name in INDEXED}
    question = asked.question(("calls",), every=None, by=(), where=where, models="")
    counted = ask(question).lines
    if counted and counted[0].values["calls"] > most_rows:
        return None
    rows = visible(user, LedgerEntry.objects.all())
    paid = Case(When(charge__isnull=True, then=F("cost_split")), default=F("charge_split"))
    split = F("cost_split") if amount == "cost" else paid
    columns = ("id", "virtual_key_id", "admitted_at", "ended_at", "cache_read_input_tokens", "session", "folded")
    wanted = _wanted(rows, asked, question).annotate(split=split).order_by()
    try:
        inner, given = wanted.values_list(*columns, "split")[: most_rows + 1].query.sql_with_params()
    except EmptyResultSet:  # the person sees no calls
        return None
    with connection.cursor() as cursor:
        cursor.execute(STATEMENT.format(*PLACES, inner), [*given, question.until])
        calls, written, known, *unread = cursor.fetchone()
    # Calls of the last minute aren't rolled up.
    if calls > most_rows:
        return None
    return UnreadWrites(written or Decimal(0), known or Decimal(0), sum(filter(None, unread), Decimal(0)), calls)


def _wanted(rows: QuerySet[LedgerEntry], asked: Asked, question: Question) -> QuerySet[Any]:
    """The calls that a report counts, and those that may read what they wrote."""
    until = question.until + LONGEST
    within = Q(admitted_at__gte=question.since, admitted_at__lt=until)
    within &= Q(id__gte=export.first_id(question.since), id__lt=export.last_id(until))
    session = Coalesce(KeyTextTransform(SESSION, "client_labels"), Value("", TextField()), output_field=TextField())
    found: QuerySet[Any] = with_dimensions(rows.filter(within)).annotate(session=session, folded=FOLDED_MODEL)
    for name, values in asked.where.items():
        some = [fold(value) if name == "model" else value for value in values if value is not None]
        one = Q(**{f"{FIELDS[name]}__in": some})
        found = found.filter(one | Q(**{f"{FIELDS[name]}__isnull": True}) if None in values else one)
    return found.filter(folded__regex=patterns.as_regex(asked.models)) if asked.models else found
