"""Makes one part of the demo's ledger, in one statement: rows, adjustments, the counters of budgets, and uses of
credentials. Costs are reckoned with the rates of `demo_rate`, exactly as `ModelPrice.cost` does (usage/rates.py).

Each step is a subquery that the planner keeps apart (`OFFSET 0`), so that no expression is computed twice.
"""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from usage.demo.calendar import CHANCE

# Hosts of RFC 5737, which no machine has.
ADDRESS = "192.0.2."
# The part of the range in which a provider fails often, and for how long.
TROUBLE, TROUBLED = 0.58, "5 hours"


def _of_call(salt: int, shift: int = 0) -> str:
    return CHANCE.format(n="n", seed="%(seed)s", salt=salt, shift=shift)


def _of_session(salt: int, shift: int = 0) -> str:
    return CHANCE.format(n="(first + session::bigint * turns)", seed="%(seed)s", salt=salt, shift=shift)


# Which session a call is of, and the chances of both.
TURNS = f"""
SELECT c.*, {_of_session(21)} AS s1, {_of_session(21, 20)} AS s2, {_of_session(21, 40)} AS s3,
    {_of_session(22)} AS s4, {_of_session(22, 20)} AS s5, {_of_call(23)} AS c1, {_of_call(23, 20)} AS c2,
    {_of_call(23, 40)} AS c3, {_of_call(24)} AS c4, {_of_call(24, 20)} AS c5, {_of_call(24, 40)} AS c6,
    {_of_call(25)} AS c7, {_of_call(25, 20)} AS c8
FROM (
    SELECT c.*, c.first + i AS n, i / c.turns AS session, i %% c.turns AS turn
    FROM demo_cell c, generate_series(0, c.calls - 1) AS i WHERE c.part = %(part)s
) AS c OFFSET 0
"""  # noqa: S608 - constants
# When it is made, which model it asks for, and what becomes of it. A key has a model that it prefers.
PLACED = f"""
SELECT t.*, m.*, begin + make_interval(secs => scale * least(86399.9, least(
        x.hours[1 + floor(s1 * 100)::integer] * 3600 + s2 * 3600, greatest(0, 85000 - turns * gap * 1.6))
        + gap * (turn + 0.7 * c1))) AS at,
    CASE WHEN s3 < 0.2 THEN m.second_key ELSE m.first_key END AS provider_key,
    CASE WHEN s3 < 0.2 THEN m.second_name ELSE m.first_name END AS provider_key_name,
    CASE WHEN m.provider = 'openai' THEN CASE WHEN c2 < 0.02 THEN 'flex' WHEN c2 < 0.035 THEN 'priority' ELSE 'default'
        END WHEN habit = 3 AND s4 < 0.6 THEN 'batch' ELSE 'standard' END AS service_tier
FROM ({TURNS}) AS t
JOIN demo_mix x USING (habit, week)
JOIN demo_model m ON m.model = x.models[1 + floor(100 * abs(
    (({CHANCE.format(n="t.key_number", seed="%(seed)s", salt=26, shift=0)}) + 0.4 * s5)::numeric %% 1))::integer]
OFFSET 0
"""  # noqa: S608 - constants
WORDS = "least(16000, 2 + floor(exp({middle} + {spread} * 2 * (c3 + c4 + c5 - 1.5))))::bigint"
# Whether the model still has the conversation in a cache, how long the prompt is, and how the call ends.
SIZED = f"""
SELECT p.*,
    caches <> '' AND (habit IN (0, 2) OR habit = 1 AND s4 < 0.5) AS cached,
    CASE habit WHEN 2 THEN c6 > 0.04 ELSE turn > 0 AND c6 > 0.05 END AS hit,
    CASE habit WHEN 0 THEN 500 + floor(2600 * s5) WHEN 1 THEN 350 + floor(900 * s5)
        WHEN 2 THEN 120 + floor(1300 * c1 * c2) ELSE 1200 + floor(58000 * c1 ^ 4) + CASE WHEN c7 < 0.004 THEN 180000
        ELSE 0 END END::bigint AS fresh,
    CASE habit WHEN 0 THEN 9000 + floor(34000 * s4 * s4) + turn * (500 + floor(2600 * s5))
        WHEN 1 THEN 900 + floor(5000 * s4) + turn * (350 + floor(900 * s5))
        WHEN 2 THEN 1500 + (key_number * 7919) %% 3500 ELSE 0 END::bigint AS kept,
    CASE habit WHEN 0 THEN {WORDS.format(middle=5.4, spread=0.9)} WHEN 1 THEN {WORDS.format(middle=6.1, spread=0.7)}
        WHEN 2 THEN {WORDS.format(middle=4.3, spread=0.7)} ELSE {WORDS.format(middle=6.2, spread=0.6)} END AS written,
    service_tier <> 'batch' AND c6 < streams AS stream,
    CASE
        WHEN service_tier = 'batch' THEN CASE WHEN c8 < 0.004 THEN 'refused' ELSE 'completed' END
        WHEN c8 < CASE WHEN p.provider = 'anthropic' AND p.first_key = p.provider_key AND at >= %(trouble)s
            AND at < %(trouble)s + interval '{TROUBLED}' THEN 0.3 ELSE 0.007 END THEN 'failed'
        WHEN c8 < 0.012 THEN 'refused' WHEN c8 < 0.013 THEN 'broken'
        WHEN c8 < 0.0145 THEN 'interrupted' WHEN c8 < 0.026 AND c6 < streams THEN 'disconnected'
        WHEN c8 > 0.9985 THEN 'declined' ELSE 'completed' END AS ending
FROM ({PLACED}) AS p OFFSET 0
"""  # noqa: S608 - constants
# The tokens of each category. A call that the provider refuses, or fails at once, has none.
COUNTED = """
SELECT s.*, u.*, CASE WHEN thinks AND habit < 2 AND c7 < 0.55 THEN floor(u.output * (0.2 + 0.5 * c1))::bigint ELSE 0
    END AS thinking,
    u.input + u.read + u.write AS prompt,
    CASE WHEN provider = 'anthropic' AND habit = 0 AND s1 < 0.02 AND service_tier <> 'batch' AND r.has_fast
        THEN 'fast' ELSE '' END AS speed,
    CASE WHEN provider = 'anthropic' AND in_us AND r.has_region THEN 'us' ELSE '' END AS inference_geo,
    CASE WHEN habit = 1 AND c2 < 0.04 AND u.output > 0 AND provider = 'anthropic' THEN 1 + floor(c7 * 3)::bigint ELSE 0
        END AS searches
FROM (SELECT s.*, ending NOT IN ('failed', 'refused') AS billed FROM ({sized}) AS s OFFSET 0) AS s
JOIN (SELECT model, bool_and(has_fast) AS has_fast, bool_and(has_region) AS has_region FROM demo_rate GROUP BY model)
    AS r USING (model)
CROSS JOIN LATERAL (SELECT
    CASE WHEN NOT billed THEN 0 WHEN NOT cached THEN fresh + kept
        WHEN caches = 'reads' THEN fresh + CASE WHEN hit THEN 0 ELSE kept END
        WHEN habit = 2 THEN fresh ELSE 2 + floor(c1 * 30)::bigint END AS input,
    CASE WHEN billed AND cached AND hit THEN kept ELSE 0 END AS read,
    CASE WHEN NOT billed OR NOT cached OR caches = 'reads' THEN 0 WHEN habit = 2 THEN CASE WHEN hit THEN 0 ELSE kept END
        WHEN hit THEN fresh ELSE kept + fresh END AS write,
    CASE WHEN NOT billed THEN 0 WHEN ending = 'declined' THEN 1 + floor(c1 * 20)::bigint
        WHEN ending IN ('broken', 'disconnected') THEN 1 + floor(written * c1)::bigint
        WHEN ending = 'interrupted' THEN floor(written * 1.3)::bigint ELSE written END AS output
    OFFSET 0) AS u
OFFSET 0
"""
# What it costs, and how long it takes. An own price may have many decimal places; halves are then rounded to even
# digits, as Decimal does.
PRICED = """
SELECT c.*, r.version, r.flag, r.output AS output_rate, r.cache_read AS read_rate, r.web_search AS search_rate,
    CASE WHEN long_cache THEN r.cache_write_1h ELSE r.cache_write_5m END AS write_rate,
    CASE WHEN scale(exact.cost) <= 12 THEN exact.cost
        WHEN exact.cost * 1000000000000 %% 1 = 0.5
        THEN (trunc(exact.cost * 1000000000000) + trunc(exact.cost * 1000000000000) %% 2) / 1000000000000
        ELSE round(exact.cost, 12) END AS cost,
    CASE WHEN long_cache THEN 0 ELSE write END AS write_5m, CASE WHEN long_cache THEN write ELSE 0 END AS write_1h,
    (180 + 900 * c1 * c1 + prompt / 90.0 + CASE WHEN thinking > 0 THEN thinking * 6 ELSE 0 END)::integer AS first_byte,
    (250 + 900 * c1 * c1 + prompt / 90.0 + c.output * (7 + 11 * s3))::integer AS duration
FROM ({counted}) AS c
JOIN demo_rate r ON r.model = c.model AND r.service_tier = c.service_tier AND r.speed = c.speed
    AND r.inference_geo = c.inference_geo AND c.at >= r.since AND c.at < r.until
    AND c.prompt > r.above AND c.prompt <= r.upto
CROSS JOIN LATERAL (SELECT (r.input * c.input + r.output * c.output + r.cache_read * c.read
    + CASE WHEN long_cache THEN r.cache_write_1h ELSE r.cache_write_5m END * c.write) * 0.000001
    + r.web_search * c.searches AS cost OFFSET 0) AS exact
OFFSET 0
"""
# What providers answer in case of failure: by chance, one of these.
FAILURES = (
    "ARRAY[529, 529, 500, 503, 429]",
    ("ARRAY['overloaded_error', 'overloaded_error', 'api_error', 'api_error', 'rate_limit_error']"),
)
MADE = f"""
SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(digest, 1, 3) || '8'
        || substr(digest, 4, 15))::uuid AS id, at AS admitted_at, at + duration * interval '1 millisecond' AS ended_at,
    credential, key, team, customer, labels,
    CASE WHEN service_tier = 'batch' THEN jsonb_build_object(
            'batch', 'msgbatch_' || substr(md5(begin::text || key), 1, 24), 'custom_id', 'document-' || n)
        WHEN habit = 0 THEN jsonb_build_object('claude_code_session',
            md5('session' || %(seed)s || (first + session * turns))::uuid)
        ELSE '{{{{}}}}' END AS client_labels,
    CASE WHEN service_tier = 'batch' THEN 'batches.request' ELSE 'messages' END AS endpoint, name, stream, provider,
    provider_key, CASE provider WHEN 'anthropic' THEN 'req_01' ELSE 'chatcmpl-' END || substr(digest, 4, 22) AS request,
    CASE ending WHEN 'declined' THEN 'completed' WHEN 'refused' THEN 'refused_by_provider' WHEN 'broken' THEN 'failed'
        WHEN 'disconnected' THEN 'client_disconnected' ELSE ending END AS status,
    CASE ending WHEN 'failed' THEN ({FAILURES[0]})[1 + floor(c1 * 5)::integer] WHEN 'refused' THEN 400
        ELSE 200 END AS http_status,
    CASE ending WHEN 'failed' THEN ({FAILURES[1]})[1 + floor(c1 * 5)::integer]
        WHEN 'refused' THEN 'invalid_request_error' WHEN 'broken' THEN 'api_error' ELSE '' END AS error_type,
    CASE ending WHEN 'declined' THEN 'refusal' WHEN 'completed' THEN CASE WHEN written >= 16000 THEN 'max_tokens'
        WHEN habit = 0 AND turn < turns - 1 THEN 'tool_use' WHEN c2 > 0.99 THEN 'max_tokens' ELSE 'end_turn' END
        ELSE '' END AS stop_reason,
    input, output, least(thinking, output) AS thinking, read, write_5m, write_1h, searches, service_tier, speed,
    inference_geo, cost, CASE WHEN cost > 0 THEN ARRAY[
        cost - of_output - of_read - of_write_5m - of_write_1h - of_searches,
        of_output, of_read, of_write_5m, of_write_1h, of_searches] END AS cost_split,
    version, flag, ending IN ('interrupted', 'broken', 'disconnected') AS estimated,
    CASE WHEN service_tier = 'batch' THEN 0 ELSE round(cost * (1.4 + 2 * c4)::numeric + 0.005, 6) END AS held,
    CASE WHEN NOT billed OR service_tier = 'batch' THEN NULL ELSE least(first_byte, duration) END AS first_byte,
    duration, provider_key_name, output_rate, ending,
    ending = 'completed' AND service_tier <> 'batch' AND c7 < 0.006 AS retried, c6,
    CASE cardinality(budgets) WHEN 1 THEN ARRAY[{{one}}]::usage_charge[]
        WHEN 2 THEN ARRAY[{{one}}, {{two}}]::usage_charge[]
        WHEN 3 THEN ARRAY[{{one}}, {{two}}, {{three}}]::usage_charge[] END AS charges
FROM (SELECT *, md5(%(seed)s || 'call' || n) AS digest FROM ({{priced}}) AS p OFFSET 0) AS p
CROSS JOIN LATERAL (SELECT round(output * output_rate * 0.000001, 12) AS of_output,
    round(read * read_rate * 0.000001, 12) AS of_read, round(write_5m * write_rate * 0.000001, 12) AS of_write_5m,
    round(write_1h * write_rate * 0.000001, 12) AS of_write_1h, round(searches * search_rate, 12) AS of_searches
    OFFSET 0) AS parts
"""  # noqa: S608 - constants


def _charge(number: int) -> str:
    return (
        f"ROW(budgets[{number}], starts[{number}], CASE WHEN tokens[{number}] "
        f"THEN (prompt + output)::numeric ELSE cost END, tokens[{number}])"
    )


ROWS = MADE.format(
    one=_charge(1),
    two=_charge(2),
    three=_charge(3),
    priced=PRICED.format(counted=COUNTED.format(sized=SIZED)),
)
ATTEMPT = """jsonb_build_object('provider_key_id', provider_key, 'provider_key', provider_key_name,
    'provider', provider, 'model', name, 'http_status', {status}, 'error_type', {error}, 'duration_ms', {duration},
    'cost', {cost})"""
LAST = ATTEMPT.format(
    status="http_status",
    error="error_type",
    duration="CASE WHEN retried THEN greatest(0, duration - 90) ELSE duration END",
    cost="trim_scale(cost)::text",
)
BEFORE = ATTEMPT.format(status="529", error="'overloaded_error'", duration="90", cost="'0'")
ADD = f"""
WITH made AS MATERIALIZED ({ROWS}), written AS (
    INSERT INTO usage_ledgerentry (id, admitted_at, ended_at, credential, virtual_key_id, team_id, customer_id, labels,
        client_labels, endpoint, requested_model, model, stream, provider, provider_key_id, provider_request_id, status,
        http_status, error_type, stop_reason, input_tokens, output_tokens, thinking_tokens, cache_read_input_tokens,
        cache_creation_5m_input_tokens, cache_creation_1h_input_tokens, web_search_requests, iterations, service_tier,
        speed, inference_geo, cost, cost_split, currency, price_version, price_flag, estimated, held,
        time_to_first_byte_ms,
        duration_ms, attempts, charges)
    SELECT id, admitted_at, ended_at, credential, key, team, customer, labels, client_labels, endpoint, name, name,
        stream, provider, provider_key, request, status, http_status, error_type, stop_reason, input, output, thinking,
        read, write_5m, write_1h, searches, '[]', service_tier, speed, inference_geo, cost, cost_split, 'USD',
        version, flag,
        estimated, held, first_byte, duration, CASE WHEN retried THEN jsonb_build_array({BEFORE}, {LAST})
        ELSE jsonb_build_array({LAST}) END, charges
    FROM made
), corrected AS (
    -- Most interrupted calls are settled late, and some of those whose client has disconnected are reconciled.
    SELECT id, ended_at, charges, less, CASE ending WHEN 'interrupted' THEN 'late_settlement' ELSE 'reconciliation' END
        AS reason, less * output_rate * 0.000001 AS money, c6
    FROM made CROSS JOIN LATERAL (SELECT floor(output * CASE ending WHEN 'interrupted' THEN 0.23 ELSE 0.1 END)::bigint
        AS less) AS l
    WHERE less > 0 AND (ending = 'interrupted' AND c6 < 0.7 OR ending = 'disconnected' AND c6 < 0.15)
), adjusted AS (
    INSERT INTO usage_adjustment (entry_id, created_at, reason, author, detail, input_tokens, output_tokens,
        thinking_tokens, cache_read_input_tokens, cache_creation_5m_input_tokens, cache_creation_1h_input_tokens,
        web_search_requests, cost, cost_split)
    SELECT id, ended_at + interval '1 second' * floor(60 + 5400 * c6), reason,
        CASE reason WHEN 'reconciliation' THEN 'finance' ELSE '' END, '{{}}', 0, -less, 0, 0, 0, 0, 0,
        -round(money, 12), ARRAY[0, -round(money, 12)]
    FROM corrected
), used AS (
    INSERT INTO usage_credentialuse AS u (credential, used_at, address)
    SELECT credential, max(admitted_at), '{ADDRESS}' || 1 + credential %% 250 FROM made GROUP BY credential
    ORDER BY credential
    ON CONFLICT (credential) DO UPDATE SET used_at = greatest(u.used_at, excluded.used_at)
), counted AS (
    INSERT INTO usage_window AS w (budget_id, start, until, spent, held)
    -- Of adjustments, a trigger counts all but late settlements, after this.
    SELECT s.budget, s.start, c.until, sum(s.amount), 0 FROM (
        SELECT c.budget, c.start, c.amount FROM made, unnest(charges) AS c
        UNION ALL
        SELECT c.budget, c.start, -CASE WHEN c.tokens THEN less ELSE round(money, 12) END
        FROM corrected, unnest(charges) AS c WHERE reason = 'late_settlement'
    ) AS s
    JOIN (SELECT DISTINCT c.budget, c.start, c.until FROM demo_cell d, unnest(d.budgets, d.starts, d.untils)
        AS c (budget, start, until) WHERE d.part = %(part)s) AS c ON c.budget = s.budget AND c.start = s.start
    GROUP BY s.budget, s.start, c.until ORDER BY s.budget, s.start
    ON CONFLICT (budget_id, start) DO UPDATE SET spent = w.spent + excluded.spent
)
SELECT count(*) FROM made
"""  # noqa: S608 - constants


def add(part: int, seed: int, trouble: datetime) -> int:
    """Add the rows of one part. Returns their number. Call it once, in a transaction that does little else.

    Args:
        seed: that of the options.
        trouble: when the hours begin in which a provider fails often.
    """
    with connection.cursor() as cursor:
        # The planner takes the rows of each step for a few, and would compare each with each of the next step.
        cursor.execute("SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off")
        cursor.execute(ADD, {"part": part, "seed": seed * 1000, "trouble": trouble})
        added: int = cursor.fetchone()[0]
    return added
