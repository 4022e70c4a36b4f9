"""When the demo's keys are used: temporary tables that spread all calls over keys and days.

A cell is what one key does on one day of its customer's calendar. Cells are numbered in parts, each of which becomes a
short transaction. Chance is a hash of numbers and the seed, so that each run makes the same rows.
"""

from __future__ import annotations

import json
from typing import Any

from django.db import connection

from keys.demo_data import DemoData
from usage.demo import cast, models_used, rates
from usage.demo.options import Options
from usage.pricing import load_price_book

# Rows of a part, about.
PART = 20_000
# By how much usage grows in a year.
GROWTH = 3.2
# Fewer calls on a day than this are put together on fewer days.
FEW = 8

NAMES = ("key", "model", "rate", "habit", "mix", "day", "window", "cell")
TABLES = """
CREATE TEMPORARY TABLE demo_key ON COMMIT DROP AS SELECT * FROM jsonb_to_recordset(%(used)s::jsonb) AS k (
    n integer, key bigint, team bigint, customer bigint, zone text, habit integer, weight float8, born timestamptz,
    gone timestamptz, credential bigint, later_credential bigint, rotated_at timestamptz, labels jsonb, in_us boolean,
    long_cache boolean, runaway boolean);
CREATE TEMPORARY TABLE demo_model AS SELECT * FROM jsonb_to_recordset(%(models)s::jsonb) AS m (
    model integer, name text, provider text, first_key bigint, second_key bigint, first_name text, second_name text,
    caches text, thinks boolean);
CREATE TEMPORARY TABLE demo_rate AS SELECT * FROM jsonb_to_recordset(%(rates)s::jsonb) AS r (
    model integer, service_tier text, speed text, inference_geo text, since timestamptz, until timestamptz,
    above bigint, upto bigint, input numeric, output numeric, cache_read numeric, cache_write_5m numeric,
    cache_write_1h numeric, web_search numeric, version text, flag text, has_fast boolean, has_region boolean);
CREATE TEMPORARY TABLE demo_habit ON COMMIT DROP AS SELECT * FROM jsonb_to_recordset(%(habits)s::jsonb) AS h (
    habit integer, turns integer, gap integer, week float8[], streams float8);
-- Models without a rate are those that the deployment refuses: the cheapest one takes their place.
CREATE TEMPORARY TABLE demo_mix AS SELECT habit, week, hours, ARRAY(
        SELECT CASE WHEN EXISTS (SELECT FROM demo_rate r WHERE r.model = slot) THEN slot ELSE 0 END
        FROM unnest(models) WITH ORDINALITY AS s (slot, place) ORDER BY place) AS models
    FROM jsonb_to_recordset(%(mixes)s::jsonb) AS x (habit integer, week integer, models integer[], hours integer[]);
ANALYZE demo_key; ANALYZE demo_model; ANALYZE demo_rate; ANALYZE demo_habit; ANALYZE demo_mix;

CREATE TEMPORARY TABLE demo_day ON COMMIT DROP AS
SELECT zone, day::date AS day, usage_moment(day::timestamp, zone) AS start,
    usage_moment(day::timestamp + interval '1 day', zone) AS until
FROM (SELECT DISTINCT zone FROM demo_key) AS z, generate_series(
    (%(since)s::timestamptz AT TIME ZONE 'UTC')::date - 1, (%(until)s::timestamptz AT TIME ZONE 'UTC')::date + 1,
    interval '1 day') AS day;
ANALYZE demo_day;

-- The windows of budgets, by owner (as in usage.budgets.Owned.owner) and day.
CREATE TEMPORARY TABLE demo_window ON COMMIT DROP AS
SELECT b.owner, b.id AS budget, b.unit = 'tokens' AS tokens, d.day, w.start, w.until
FROM usage_budget b
LEFT JOIN keys_virtualkey v ON v.id = b.virtual_key_id
LEFT JOIN keys_team t ON t.id = b.team_id
JOIN keys_customer u ON u.id = coalesce(b.customer_id, t.customer_id, v.customer_id)
JOIN demo_day d ON d.zone = u.time_zone
CROSS JOIN LATERAL usage_window_at(b.period, b.rolling, u.time_zone, u.fiscal_year_month, d.start) AS w
WHERE b.id >= %(budget)s AND b.id < %(budgets_end)s;
ANALYZE demo_window;
"""

# The hash of two numbers as a part of 1; the shifts of one hash give independent ones.
CHANCE = "((hashint8extended({n}, {seed} + {salt}) >> {shift}) & 1048575) / 1048576.0::float8"


def _chance(n: str, salt: int, shift: int = 0) -> str:
    return CHANCE.format(n=n, seed="%(seed)s", salt=salt, shift=shift)


CELLS = f"""
CREATE TEMPORARY TABLE demo_cell AS
WITH span AS (
    SELECT k.*, h.turns, h.gap, h.week, h.streams, d.day, greatest(d.start, %(since)s, k.born) AS begin,
        least(d.until, %(until)s, k.gone) AS until, k.n::bigint * 100000 + (d.day - date '2000-01-01') AS place,
        extract(epoch FROM d.start - %(since)s)::float8 / extract(epoch FROM %(until)s::timestamptz - %(since)s) AS at
    FROM demo_key k JOIN demo_habit h USING (habit) JOIN demo_day d USING (zone)
    WHERE d.until > %(since)s AND d.start < %(until)s
), open AS (
    SELECT *, weight * power({GROWTH}, at * %(months)s / 12.0) * week[extract(isodow FROM day)::integer]
        * extract(epoch FROM until - begin)::float8 / 86400
        -- Offices are empty around the end of the year.
        * CASE WHEN habit < 2 AND to_char(day, 'MMDD') NOT BETWEEN '0102' AND '1223' THEN 0.2 ELSE 1 END
        * CASE WHEN habit < 2 AND {_chance("place", 11)} < 0.2 THEN 0
            ELSE exp(0.9 * ({_chance("place", 12)} + {_chance("place", 12, 20)} + {_chance("place", 12, 40)} - 1.5))
            END
        * CASE WHEN runaway AND day = (%(since)s::timestamptz
            + (%(until)s::timestamptz - %(since)s) * 0.87)::date THEN 30 ELSE 1 END AS amount
    FROM span WHERE until > begin
), dense AS (
    SELECT *, amount / sum(amount) OVER () * %(rows)s AS calls FROM open
), bundled AS (
    SELECT *, CASE WHEN habit > 1 OR calls >= {FEW} OR calls = 0 THEN calls
        WHEN {_chance("place", 13)} < calls / {FEW} THEN {FEW} ELSE 0 END AS portion FROM dense
), summed AS (
    SELECT *, sum(portion) OVER (ORDER BY day, n) AS upto FROM bundled
), counted AS (
    SELECT *, floor(upto / max(upto) OVER () * %(rows)s)::bigint AS last FROM summed
), numbered AS (
    SELECT *, coalesce(lag(last) OVER (ORDER BY day, n), 0) AS first FROM counted
)
SELECT (first / %(size)s)::integer AS part, first, (last - first)::integer AS calls, begin,
    extract(epoch FROM until - begin)::float8 / 86400 AS scale, key, team, customer, labels, habit, in_us, long_cache,
    gap, streams, n AS key_number, 1 + (hashint8extended(place, %(seed)s + 14) & 1023)::integer %% turns AS turns,
    greatest(0, least(%(weeks)s - 1, (day - (%(since)s::timestamptz)::date) / 7)) AS week,
    CASE WHEN begin >= rotated_at THEN later_credential ELSE credential END AS credential,
    w.budgets, w.starts, w.tokens, w.untils
FROM numbered c CROSS JOIN LATERAL (
    SELECT array_agg(budget) AS budgets, array_agg(start) AS starts, array_agg(tokens) AS tokens,
        array_agg(until) AS untils
    FROM demo_window d
    WHERE d.day = c.day AND d.owner IN (c.customer * 4, c.team * 4 + 1, c.key * 4 + 2)
) AS w
WHERE last > first
"""  # noqa: S608 - constants


def make(mark: DemoData, options: Options, made: cast.Cast) -> int:
    """Make the temporary tables of all calls, for this session. Returns the number of parts.

    Args:
        made: the cast, with the ids that the mark says.
    """
    weeks = (options.until - options.since).days // 7 + 1
    keys = made.provider_keys
    models = [
        {
            "model": number,
            "name": model.name,
            "provider": model.provider,
            "first_key": keys[model.first].pk,
            "second_key": keys[model.second].pk,
            "first_name": keys[model.first].name,
            "second_name": keys[model.second].name,
            "caches": model.caches,
            "thinks": model.thinks,
        }
        for number, model in enumerate(models_used.MODELS)
    ]
    habits = [
        {"habit": number, "turns": each.turns, "gap": each.gap, "week": each.week, "streams": each.streams}
        for number, each in enumerate(models_used.HABITS)
    ]
    budget: int = mark.options["first"]["budget"]
    values: dict[str, Any] = {
        "used": json.dumps(cast.as_json(made.used)),
        "models": json.dumps(models),
        "rates": json.dumps(list(rates.rows(load_price_book(), options.since, options.until))),
        "habits": json.dumps(habits),
        "mixes": json.dumps(list(models_used.mixes(weeks))),
        "since": options.since,
        "until": options.until,
        "months": options.months,
        "rows": options.rows,
        "seed": options.seed * 1000,
        "weeks": weeks,
        "size": PART,
        "budget": budget,
        "budgets_end": budget + len(made.budgets),
    }
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {', '.join(f'pg_temp.demo_{name}' for name in NAMES)}")
        for statement in TABLES.split(";\n"):
            if statement.strip():
                cursor.execute(statement, values)
        cursor.execute("CREATE INDEX ON demo_window (owner, day)")
        cursor.execute(CELLS, values)
        cursor.execute("CREATE INDEX ON demo_cell (part); ANALYZE demo_cell")
        cursor.execute("SELECT max(part) + 1 FROM demo_cell")
        parts: int = cursor.fetchone()[0]
    return parts
