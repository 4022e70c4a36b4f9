-- The arbiter: admits and settles calls, a group of them in one transaction. See usage.admission for its caller, and
-- budgets.sql for the windows, the counters and the order of locks.

-- What became of a call, and what there is to say about it, as JSON.
CREATE TYPE usage_verdict AS (id uuid, verdict text, detail text);
-- What settlements came to: verdicts on those that were not simply settled, and what the counters change by.
CREATE TYPE usage_closed AS (verdicts usage_verdict[], changes usage_change[], corrections usage_throttle[]);
-- An admission as it is asked for: usage.admission.Admission.
CREATE TYPE usage_asked AS (
    id uuid, credential bigint, revision bigint, catalogue_revision bigint, hold boolean, endpoint text,
    requested_model text, stream boolean, provider text, provider_key bigint, ceiling numeric(30, 12),
    input_tokens bigint,
    input_cost numeric, input_ceiling bigint, max_tokens bigint, output_price numeric, price_version text,
    client_labels jsonb, expires_seconds bigint);
-- An admission that budgets or limits apply to, with what it needs in which of the counters that were read with it.
CREATE TYPE usage_weighed AS (
    asked usage_asked, virtual_key_id bigint, team_id bigint, customer_id bigint, labels jsonb, verdict text,
    numbers integer[], needs numeric[], charges usage_charge[], throttles usage_throttle[]);
-- A budget's window or a limit's bucket, and the room in it: what a full bucket has (of tokens), and how much more it
-- gets in a second.
CREATE TYPE usage_counter AS (
    budget bigint, throttle bigint, binding boolean, room numeric, full_room numeric, pace numeric);

-- End the holds of calls by what they came to: the hold goes, the ledger row comes. Ending again changes nothing. The
-- counters are left to the caller. Each call gets a verdict:
--   settled    its hold became its ledger row (the usual case: who hears nothing was settled)
--   adjusted   it had been taken for interrupted; the difference is now an adjustment of that row
--   repeated   it was settled before
--   unknown    there is neither hold nor row
CREATE FUNCTION usage_close(p_settlements jsonb) RETURNS usage_closed LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    missing uuid[];
    closed usage_closed;
    late usage_change[];
BEGIN
    WITH s AS (
        SELECT DISTINCT ON (id) * FROM jsonb_populate_recordset(NULL::usage_ledgerentry, p_settlements)
    ), gone AS (
        DELETE FROM usage_hold h USING s WHERE h.id = s.id RETURNING h.*
    ), written AS (
        INSERT INTO usage_ledgerentry (
            id, admitted_at, ended_at, credential, virtual_key_id, team_id, customer_id, labels, client_labels,
            endpoint, requested_model, model, stream, provider, provider_key_id, provider_request_id, status,
            http_status, error_type, stop_reason, input_tokens, output_tokens, thinking_tokens,
            cache_read_input_tokens, cache_creation_5m_input_tokens, cache_creation_1h_input_tokens,
            web_search_requests, iterations, service_tier, speed, inference_geo, cost, currency, price_version,
            price_flag, estimated, held, time_to_first_byte_ms, duration_ms, attempts, charges)
        SELECT
            gone.id, gone.admitted_at, gone.admitted_at + make_interval(secs => s.duration_ms / 1000.0),
            gone.credential, gone.virtual_key_id, gone.team_id, gone.customer_id, gone.labels, gone.client_labels,
            gone.endpoint, gone.requested_model, s.model, gone.stream, s.provider, s.provider_key_id,
            s.provider_request_id, s.status, s.http_status, s.error_type, s.stop_reason, s.input_tokens,
            s.output_tokens, s.thinking_tokens, s.cache_read_input_tokens, s.cache_creation_5m_input_tokens,
            s.cache_creation_1h_input_tokens, s.web_search_requests, s.iterations, s.service_tier, s.speed,
            s.inference_geo, s.cost, s.currency, s.price_version, s.price_flag, s.estimated, gone.ceiling,
            s.time_to_first_byte_ms, s.duration_ms, s.attempts,
            usage_spent(gone.charges, s.cost, usage_tokens(s.input_tokens, s.output_tokens, s.cache_read_input_tokens,
                s.cache_creation_5m_input_tokens, s.cache_creation_1h_input_tokens))
        FROM s JOIN gone USING (id)
        ON CONFLICT (id) DO NOTHING  -- taken for interrupted, then admitted again by a group that was in doubt
        RETURNING id, charges
    )
    SELECT
        (SELECT array_agg(s.id) FROM s WHERE NOT EXISTS (SELECT FROM written w WHERE w.id = s.id)),
        (SELECT array_agg(ROW(c.budget, c.start, 0, -c.amount)::usage_change) FROM gone, unnest(gone.charges) AS c),
        (SELECT array_agg(ROW(c.budget, c.start, c.amount, 0)::usage_change) FROM written w, unnest(w.charges) AS c),
        (SELECT array_agg(ROW(t.throttle, CASE l.kind
            WHEN 'parallel' THEN -1
            WHEN 'output_tpm' THEN s.output_tokens - t.amount
            WHEN 'input_tpm' THEN s.input_tokens::numeric + s.cache_creation_5m_input_tokens
                + s.cache_creation_1h_input_tokens
                + CASE WHEN l.count_cached THEN s.cache_read_input_tokens ELSE 0 END - t.amount
            ELSE 0 END)::usage_throttle)
        FROM s JOIN gone USING (id), unnest(gone.throttles) AS t JOIN usage_limit l ON l.id = t.throttle)
    INTO missing, closed.changes, late, closed.corrections;
    closed.changes := closed.changes || late;

    IF missing IS NULL THEN
        RETURN closed;
    END IF;
    WITH s AS (
        SELECT DISTINCT ON (id) * FROM jsonb_populate_recordset(NULL::usage_ledgerentry, p_settlements)
        WHERE id = ANY (missing)
    ), adjusted AS (
        INSERT INTO usage_adjustment (
            entry_id, reason, author, detail, input_tokens, output_tokens, thinking_tokens, cache_read_input_tokens,
            cache_creation_5m_input_tokens, cache_creation_1h_input_tokens, web_search_requests, cost)
        SELECT
            s.id, 'late_settlement', '', to_jsonb(s), s.input_tokens - e.input_tokens,
            s.output_tokens - e.output_tokens, s.thinking_tokens - e.thinking_tokens,
            s.cache_read_input_tokens - e.cache_read_input_tokens,
            s.cache_creation_5m_input_tokens - e.cache_creation_5m_input_tokens,
            s.cache_creation_1h_input_tokens - e.cache_creation_1h_input_tokens,
            s.web_search_requests - e.web_search_requests, s.cost - e.cost
        FROM s JOIN usage_ledgerentry e USING (id) WHERE e.status = 'interrupted'
        ON CONFLICT DO NOTHING
        RETURNING *
    ), freed AS (
        DELETE FROM usage_retained r USING adjusted a WHERE r.id = a.entry_id RETURNING r.charges
    )
    SELECT
        (SELECT array_agg(ROW(s.id, CASE
            WHEN EXISTS (SELECT FROM adjusted a WHERE a.entry_id = s.id) THEN 'adjusted'
            WHEN EXISTS (SELECT FROM usage_ledgerentry e WHERE e.id = s.id) THEN 'repeated'
            ELSE 'unknown' END, NULL)::usage_verdict) FROM s),
        (SELECT array_agg(change) FROM (
            SELECT ROW(c.budget, c.start, c.amount, 0)::usage_change
            FROM adjusted a JOIN usage_ledgerentry e ON e.id = a.entry_id,
            unnest(usage_spent(e.charges, a.cost, usage_tokens(a.input_tokens, a.output_tokens,
                a.cache_read_input_tokens, a.cache_creation_5m_input_tokens, a.cache_creation_1h_input_tokens))) AS c
            UNION ALL
            SELECT ROW(c.budget, c.start, 0, -c.amount)::usage_change FROM freed f, unnest(f.charges) AS c
        ) AS changed (change))
    INTO closed.verdicts, late;
    closed.changes := closed.changes || late;
    RETURN closed;
END $$;

-- Settle calls; see usage_close for the verdicts.
CREATE FUNCTION usage_settle(p_settlements jsonb) RETURNS SETOF usage_verdict LANGUAGE plpgsql AS $$
DECLARE
    closed usage_closed := usage_close(p_settlements);
BEGIN
    PERFORM usage_move(closed.changes, closed.corrections);
    RETURN QUERY SELECT * FROM unnest(closed.verdicts);
END $$;

-- Who calls with a credential, until when that may be, and what bars it meanwhile. It must stay a part of the statements
-- that it is used in, so it doesn't look at the clock itself.
CREATE VIEW usage_caller AS
SELECT c.id AS credential, v.id AS virtual_key_id, v.team_id, v.customer_id, v.labels, v.revision,
    coalesce(g.catalogue_revision, 0) AS catalogue_revision,
    CASE WHEN v.revoked_at IS NULL THEN c.revoked_at ELSE '-infinity' END AS revoked_from,
    least(c.expires_at, v.expires_at) AS expires_at, CASE
        WHEN NOT v.active THEN 'key paused'
        WHEN t.paused THEN 'team paused'
        WHEN u.paused THEN 'customer paused'
        WHEN g.paused THEN 'gateway paused'
        END AS barred
FROM keys_credential c
JOIN keys_virtualkey v ON v.id = c.virtual_key_id
LEFT JOIN keys_team t ON t.id = v.team_id
LEFT JOIN keys_customer u ON u.id = v.customer_id
LEFT JOIN keys_gateway g ON true;

-- One group of a process's writer: settlements first, then releases of holds that nobody took, then admissions,
-- each judged by what is committed now. Raises BF001 where the writer's right has gone to another connection or to
-- the reaper, BF002 where what was locked turns out not to be what counts now: ask again.
CREATE FUNCTION usage_group(
    p_process uuid, p_fence bigint, p_settlements jsonb, p_releases uuid[], p_admissions jsonb)
RETURNS SETOF usage_verdict LANGUAGE plpgsql
-- Plans are kept for as long as a connection, and must not be those of the day on which there were ten keys; what that
-- makes them look like is nothing to compile for.
SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    closed usage_closed;
    verdicts usage_verdict[];
    given usage_change[];
    returned usage_throttle[];
    counted usage_asked[];
    budgets bigint[];
    throttles bigint[];
    locked usage_change[];
    moment timestamptz;
BEGIN
    UPDATE usage_writer SET groups = groups + 1 WHERE process = p_process AND fence = p_fence;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this writer has been replaced' USING ERRCODE = 'BF001';
    END IF;
    IF p_settlements IS NOT NULL THEN
        closed := usage_close(p_settlements);
        IF closed.verdicts IS NOT NULL THEN
            RETURN QUERY SELECT * FROM unnest(closed.verdicts);
        END IF;
    END IF;
    IF p_releases IS NOT NULL THEN
        WITH gone AS (
            DELETE FROM usage_hold h WHERE h.id = ANY (p_releases) RETURNING h.charges, h.throttles
        )
        SELECT
            (SELECT array_agg(ROW(c.budget, c.start, 0, -c.amount)::usage_change) FROM gone, unnest(charges) AS c),
            (SELECT array_agg(ROW(t.throttle, -t.amount)::usage_throttle) FROM gone, unnest(throttles) AS t)
        INTO given, returned;
        closed.changes := closed.changes || given;
        closed.corrections := closed.corrections || returned;
    END IF;
    IF p_admissions IS NOT NULL THEN
        -- Nothing is counted for most calls: these are admitted here.
        WITH asked AS MATERIALIZED (
            SELECT * FROM jsonb_populate_recordset(NULL::usage_asked, p_admissions)
        ), judged AS MATERIALIZED (
            SELECT asked.*, k.virtual_key_id, k.team_id, k.customer_id, k.labels, CASE
                WHEN k.revoked_from <= clock_timestamp() THEN 'revoked'
                WHEN k.expires_at <= clock_timestamp() THEN 'expired'
                WHEN k.barred IS NOT NULL THEN k.barred
                WHEN k.revision <> asked.revision OR k.catalogue_revision <> asked.catalogue_revision THEN 'stale'
                ELSE 'admitted' END AS verdict
            FROM asked JOIN usage_caller k ON k.credential = asked.credential
        ), applying AS MATERIALIZED (
            SELECT j.id AS id, ARRAY(
                SELECT b.id FROM usage_budgets_of(j.customer_id, j.team_id, j.virtual_key_id, j.provider_key, j.requested_model) b
            ) AS budgets, ARRAY(
                SELECT l.id FROM usage_limits_of(j.customer_id, j.team_id, j.virtual_key_id, j.provider_key, j.requested_model) l
            ) AS throttles
            FROM judged j WHERE j.verdict = 'admitted' AND j.hold AND (j.ceiling > 0 OR j.max_tokens > 0)
        ), applied AS MATERIALIZED (
            SELECT * FROM applying WHERE budgets <> '{}' OR throttles <> '{}'
        ), held AS (
            INSERT INTO usage_hold (
                id, process, expires_at, admitted_at, credential, virtual_key_id, team_id, customer_id, labels,
                client_labels, endpoint, requested_model, stream, provider, provider_key, ceiling, input_tokens,
                input_cost, max_tokens, output_price, price_version)
            SELECT
                id, CASE WHEN expires_seconds IS NULL THEN p_process END,
                clock_timestamp() + make_interval(secs => expires_seconds), usage_now(), credential,
                virtual_key_id, team_id, customer_id, labels, client_labels, endpoint, requested_model, stream,
                provider, provider_key, ceiling, input_tokens, input_cost, max_tokens, output_price, price_version
            FROM judged
            WHERE verdict = 'admitted' AND hold AND id NOT IN (SELECT id FROM applied)
        )
        SELECT
            (SELECT array_agg(ROW(id, coalesce(verdict, 'unknown'), NULL)::usage_verdict)
            FROM asked LEFT JOIN judged USING (id) WHERE id NOT IN (SELECT id FROM applied)),
            (SELECT array_agg(asked) FILTER (WHERE id IN (SELECT id FROM applied)) FROM asked),  -- a scan, in order
            (SELECT array_agg(DISTINCT b) FROM applied, unnest(applied.budgets) AS b),
            (SELECT array_agg(DISTINCT t) FROM applied, unnest(applied.throttles) AS t)
        INTO verdicts, counted, budgets, throttles;
        RETURN QUERY SELECT * FROM unnest(verdicts);
    END IF;

    IF counted IS NULL THEN
        IF closed.changes IS NOT NULL OR closed.corrections IS NOT NULL THEN
            PERFORM usage_move(closed.changes, closed.corrections);
        END IF;
        RETURN;
    END IF;
    IF budgets IS NOT NULL THEN
        PERFORM usage_open_windows(budgets);
        moment := usage_now();
        SELECT array_agg(ROW(w.budget_id, w.start, 0, 0)::usage_change) INTO locked
        FROM unnest(budgets) AS budget, usage_current(budget, moment) AS w;
    END IF;
    IF throttles IS NOT NULL THEN
        INSERT INTO usage_limitstate (limit_id, full_at, running)
        SELECT t, usage_now(), 0 FROM unnest(throttles) AS t
        WHERE NOT EXISTS (SELECT FROM usage_limitstate s WHERE s.limit_id = t) ORDER BY t
        ON CONFLICT DO NOTHING;
        SELECT array_agg(ROW(t, 0)::usage_throttle) INTO returned FROM unnest(throttles) AS t;
    END IF;
    PERFORM usage_lock(closed.changes || locked, closed.corrections || returned);
    IF closed.changes IS NOT NULL THEN
        PERFORM usage_count(closed.changes);
    END IF;
    IF closed.corrections IS NOT NULL THEN
        PERFORM usage_correct(closed.corrections);
    END IF;
    RETURN QUERY SELECT * FROM usage_decide(p_process, counted, locked, throttles);
END $$;

-- What there is to say about a refusal, as JSON: the budget or the limit, its owner, and what was needed and is left.
-- Amounts are strings, moments ISO 8601 in UTC.
CREATE FUNCTION usage_refusal(
    p_budget bigint, p_throttle bigint, p_needed numeric, p_left numeric, p_wait numeric, p_moment timestamptz)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said json;
BEGIN
    IF p_budget IS NOT NULL THEN
        SELECT json_build_object(
            'budget', b.id, 'owner_kind', CASE WHEN b.customer_id IS NOT NULL THEN 'customer'
                WHEN b.team_id IS NOT NULL THEN 'team' ELSE 'virtual key' END,
            'owner', coalesce(v.name, t.name, u.name), 'unit', b.unit, 'period', b.period,
            'enforcement', b.enforcement, 'amount', trim_scale(allowed.amount)::text,
            'spent', trim_scale(w.spent)::text, 'held', trim_scale(allowed.amount - w.spent - p_left)::text,
            'needed', trim_scale(p_needed)::text, 'left', trim_scale(p_left)::text, 'until', w.until,
            'time_zone', u.time_zone, 'language', u.language)
        INTO said
        FROM usage_budget b
        LEFT JOIN keys_virtualkey v ON v.id = b.virtual_key_id
        LEFT JOIN keys_team t ON t.id = b.team_id
        JOIN keys_customer u ON u.id = coalesce(b.customer_id, t.customer_id, v.customer_id),
        usage_current(b.id, p_moment) AS w, usage_allowed(b.id, b.amount, p_moment) AS allowed
        WHERE b.id = p_budget;
    ELSE
        SELECT json_build_object(
            'limit', l.id, 'owner_kind', CASE WHEN l.customer_id IS NOT NULL THEN 'customer'
                WHEN l.team_id IS NOT NULL THEN 'team' ELSE 'virtual key' END,
            'owner', coalesce(v.name, t.name, u.name), 'kind', l.kind, 'rate', l.rate,
            'needed', trim_scale(p_needed)::text, 'left', greatest(0, floor(p_left))::text,
            'retry_after', greatest(1, ceil(p_wait))::integer)
        INTO said
        FROM usage_limit l
        LEFT JOIN keys_virtualkey v ON v.id = l.virtual_key_id
        LEFT JOIN keys_team t ON t.id = l.team_id
        LEFT JOIN keys_customer u ON u.id = l.customer_id
        WHERE l.id = p_throttle;
    END IF;
    RETURN said::text;
END $$;

-- How the limits of an admitted call stand after it, as JSON: a list of what is left of each, and when it is full again.
CREATE FUNCTION usage_standing(p_throttles usage_throttle[], p_moment timestamptz) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        SELECT json_agg(json_build_object('kind', l.kind, 'limit', l.rate, 'remaining', greatest(0, CASE l.kind
            WHEN 'parallel' THEN l.rate - s.running
            ELSE floor(coalesce(l.burst, greatest(1, l.rate / 10))
                - greatest(0, extract(epoch FROM s.full_at - p_moment)) * l.rate / 60) END),
            'reset', greatest(s.full_at, p_moment)))
        FROM unnest(p_throttles) AS t
        JOIN usage_limit l ON l.id = t.throttle JOIN usage_limitstate s ON s.limit_id = l.id);
END $$;

-- Decide on calls that budgets or limits apply to, now that their counters are locked, and hold what they may cost.
-- All that applies must allow a call; a refused one changes nothing, so that a smaller one after it may still pass.
-- Verdicts beyond usage_caller's:
--   budget     a budget has too little left; the detail says which, and what was needed
--   limit      it comes too soon, or too many run; the detail says which, and when to try again
CREATE FUNCTION usage_decide(
    p_process uuid, p_asked usage_asked[], p_locked usage_change[], p_throttles bigint[])
RETURNS SETOF usage_verdict LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := usage_now();
    calls usage_weighed[];
    scales usage_counter[];
    all_locked boolean;
    all_fit boolean;
    call usage_weighed;
    rooms numeric[];
    blockers integer[];
    lefts numeric[];
    blocker integer;
    scale usage_counter;
    wait numeric;
    longest numeric;
    number integer;
BEGIN
    -- One snapshot: who calls, what applies to it, and what is left.
    WITH judged AS MATERIALIZED (
        SELECT a.number, a.asked, k.virtual_key_id, k.team_id, k.customer_id, k.labels, CASE
            WHEN k.revoked_from <= clock_timestamp() THEN 'revoked'
            WHEN k.expires_at <= clock_timestamp() THEN 'expired'
            WHEN k.barred IS NOT NULL THEN k.barred
            WHEN k.revision <> (a.asked).revision OR k.catalogue_revision <> (a.asked).catalogue_revision THEN 'stale'
            ELSE 'admitted' END AS verdict
        FROM (SELECT row_number() OVER () AS number, asked FROM unnest(p_asked) AS asked) AS a
        JOIN usage_caller k ON k.credential = (a.asked).credential
    ), charged AS MATERIALIZED (
        SELECT j.number AS call, b.id AS budget, b.unit = 'tokens' AS tokens, b.enforcement <> 'soft' AS binding,
            b.amount, CASE b.enforcement
                WHEN 'expected' THEN least(
                    most.need, usage_likely(j.virtual_key_id, (j.asked).requested_model, b.unit = 'tokens'))
                ELSE most.need END AS need
        FROM judged j, usage_budgets_of(
            j.customer_id, j.team_id, j.virtual_key_id, (j.asked).provider_key, (j.asked).requested_model) AS b,
        LATERAL (SELECT CASE b.unit
            WHEN 'tokens' THEN greatest((j.asked).input_ceiling, (j.asked).input_tokens) + (j.asked).max_tokens
            ELSE (j.asked).ceiling END) AS most (need)
        WHERE j.verdict = 'admitted'
    ), throttled AS MATERIALIZED (
        SELECT j.number AS call, l.id AS throttle, l.kind, l.rate, coalesce(l.burst, greatest(1, l.rate / 10)) AS burst,
            CASE l.kind
                WHEN 'input_tpm' THEN (j.asked).input_tokens
                WHEN 'output_tpm' THEN (j.asked).max_tokens
                ELSE 1 END AS need
        FROM judged j, usage_limits_of(
            j.customer_id, j.team_id, j.virtual_key_id, (j.asked).provider_key, (j.asked).requested_model) AS l
        -- What lasts for days isn't one of the calls at once, nor are its tokens this minute's.
        WHERE j.verdict = 'admitted' AND ((j.asked).expires_seconds IS NULL OR l.kind = 'rpm')
    ), windows AS MATERIALIZED (
        SELECT d.budget, d.tokens, d.binding, w.start, allowed.amount - w.spent - w.held AS room,
            k.budget IS NOT NULL AS locked
        FROM (SELECT DISTINCT budget, tokens, binding, amount FROM charged) AS d
        CROSS JOIN LATERAL usage_allowed(d.budget, d.amount, moment) AS allowed
        LEFT JOIN LATERAL usage_current(d.budget, moment) AS w ON true
        LEFT JOIN unnest(p_locked) AS k ON k.budget = d.budget AND k.start = w.start
    ), buckets AS MATERIALIZED (
        SELECT d.*, CASE d.kind WHEN 'parallel' THEN d.rate - s.running
            ELSE d.burst - greatest(0, extract(epoch FROM s.full_at - moment)) * d.rate / 60 END AS room
        FROM (SELECT DISTINCT throttle, kind, rate, burst FROM throttled) AS d
        LEFT JOIN usage_limitstate s ON s.limit_id = d.throttle AND s.limit_id = ANY (p_throttles)
    ), numbered AS MATERIALIZED (
        SELECT row_number() OVER (ORDER BY throttle NULLS FIRST, budget)::integer AS number, all_of.* FROM (
            SELECT budget, NULL::bigint AS throttle, start, tokens, binding, room, NULL::numeric AS full_room,
                NULL::numeric AS pace, locked
            FROM windows
            UNION ALL
            SELECT NULL, throttle, NULL, NULL, true, room, CASE WHEN kind LIKE '%tpm' THEN burst END,
                CASE WHEN kind <> 'parallel' THEN rate / 60.0 END, room IS NOT NULL
            FROM buckets
        ) AS all_of
    ), needed AS MATERIALIZED (
        SELECT c.call, n.number, c.need, n.budget, n.throttle, n.start, n.tokens
        FROM charged c JOIN numbered n ON n.budget = c.budget
        UNION ALL
        SELECT t.call, n.number, t.need, n.budget, n.throttle, n.start, n.tokens
        FROM throttled t JOIN numbered n ON n.throttle = t.throttle
    ), weighed AS (
        SELECT call, array_agg(number) AS numbers, array_agg(need) AS needs,
            array_agg(ROW(budget, start, need, tokens)::usage_charge) FILTER (WHERE budget IS NOT NULL) AS charges,
            array_agg(ROW(throttle, need)::usage_throttle) FILTER (WHERE throttle IS NOT NULL) AS throttles
        FROM needed GROUP BY call
    )
    SELECT
        (SELECT array_agg(ROW(j.asked, j.virtual_key_id, j.team_id, j.customer_id, j.labels, j.verdict, w.numbers,
            w.needs, w.charges, w.throttles)::usage_weighed ORDER BY j.number)
        FROM judged j LEFT JOIN weighed w ON w.call = j.number),
        (SELECT array_agg(ROW(n.budget, n.throttle, n.binding, n.room, n.full_room, n.pace)::usage_counter
            ORDER BY n.number) FROM numbered n),
        (SELECT bool_and(locked) FROM numbered),
        (SELECT bool_and(total.need <= n.room) FROM (
            SELECT number, sum(need) AS need FROM needed GROUP BY number
        ) AS total JOIN numbered n ON n.number = total.number AND n.binding)
    INTO calls, scales, all_locked, all_fit;
    IF NOT all_locked THEN
        RAISE EXCEPTION 'what applies has changed meanwhile' USING ERRCODE = 'BF002';
    END IF;

    IF NOT all_fit THEN
        -- One after the other, in order of arrival.
        rooms := ARRAY(SELECT room FROM unnest(scales));
        FOREACH call IN ARRAY calls LOOP
            blocker := 0;
            longest := -1;
            FOR n IN 1 .. coalesce(cardinality(call.numbers), 0) LOOP
                number := call.numbers[n];
                scale := scales[number];
                -- More than a bucket takes passes when it is full.
                IF scale.binding AND call.needs[n] > rooms[number] AND rooms[number] < coalesce(
                    scale.full_room, call.needs[n]) THEN
                    wait := CASE WHEN scale.throttle IS NULL THEN 'infinity'
                        ELSE (least(call.needs[n], scale.full_room) - rooms[number]) / scale.pace END;
                    IF coalesce(wait, 1) > longest THEN
                        blocker := n;
                        longest := coalesce(wait, 1);
                    END IF;
                END IF;
            END LOOP;
            blockers := blockers || blocker;
            lefts := lefts || CASE WHEN blocker > 0 THEN rooms[call.numbers[blocker]] END;
            IF blocker = 0 THEN
                FOR n IN 1 .. coalesce(cardinality(call.numbers), 0) LOOP
                    rooms[call.numbers[n]] := rooms[call.numbers[n]] - call.needs[n];
                END LOOP;
            END IF;
        END LOOP;
        RETURN QUERY
        SELECT (r.asked).id, CASE WHEN s.budget IS NULL THEN 'limit' ELSE 'budget' END,
            usage_refusal(s.budget, s.throttle, r.needs[r.blocker], r.room,
                (least(r.needs[r.blocker], s.full_room) - r.room) / s.pace, moment)
        FROM (
            SELECT c.*, b.blocker, b.room FROM unnest(calls) WITH ORDINALITY AS c
            JOIN unnest(blockers, lefts) WITH ORDINALITY AS b (blocker, room) USING (ordinality)
            WHERE b.blocker > 0
        ) AS r, LATERAL (SELECT (scales[r.numbers[r.blocker]]).*) AS s;
        SELECT array_agg(c) INTO calls FROM (
            SELECT row_number() OVER () AS n, c FROM unnest(calls) AS c
        ) AS numbered WHERE blockers[n] = 0;
    END IF;

    WITH held AS (
        INSERT INTO usage_hold (
            id, process, expires_at, admitted_at, credential, virtual_key_id, team_id, customer_id, labels,
            client_labels, endpoint, requested_model, stream, provider, provider_key, ceiling, input_tokens,
            input_cost, max_tokens, output_price, price_version, charges, throttles)
        SELECT
            (asked).id, CASE WHEN (asked).expires_seconds IS NULL THEN p_process END,
            clock_timestamp() + make_interval(secs => (asked).expires_seconds), moment, (asked).credential,
            virtual_key_id, team_id, customer_id, labels, (asked).client_labels, (asked).endpoint,
            (asked).requested_model, (asked).stream, (asked).provider, (asked).provider_key, (asked).ceiling,
            (asked).input_tokens, (asked).input_cost, (asked).max_tokens, (asked).output_price,
            (asked).price_version, charges, throttles
        FROM unnest(calls) AS c WHERE verdict = 'admitted'
        RETURNING charges, throttles
    ), taken AS (
        UPDATE usage_limitstate s SET
            full_at = CASE WHEN l.kind = 'parallel' THEN s.full_at ELSE greatest(s.full_at, moment)
                + usage_pay_off(t.amount, l.rate) END,
            running = CASE WHEN l.kind = 'parallel' THEN s.running + t.amount::bigint ELSE s.running END
        FROM (
            SELECT t.throttle, sum(t.amount) AS amount FROM held, unnest(held.throttles) AS t GROUP BY t.throttle
        ) AS t JOIN usage_limit l ON l.id = t.throttle
        WHERE s.limit_id = t.throttle
    )
    SELECT (SELECT array_agg(ROW(c.budget, c.start, 0, c.amount)::usage_change) FROM held, unnest(held.charges) AS c)
    INTO p_locked;
    IF p_locked IS NOT NULL THEN
        PERFORM usage_count(p_locked);
    END IF;
    RETURN QUERY
    SELECT (c.asked).id, c.verdict, CASE WHEN c.verdict = 'admitted' AND c.throttles IS NOT NULL THEN
        usage_standing(c.throttles, moment) END
    FROM unnest(calls) AS c;
END $$;

-- End holds whose calls nobody will settle: each becomes an interrupted row, estimated as its input and what a model
-- writes (p_rate tokens a second) in the time up to p_until, when the call is last known to have run. That much is
-- spent; the rest of what was held is retained (usage_give_back), for nobody knows what the call will come to.
CREATE FUNCTION usage_interrupt(p_calls uuid[], p_until timestamptz[], p_rate integer)
RETURNS integer LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    ended integer;
    changes usage_change[];
    freed usage_throttle[];
BEGIN
    WITH gone AS (
        DELETE FROM usage_hold h USING unnest(p_calls, p_until) AS p (call, until)
        WHERE h.id = p.call RETURNING h.*, p.until
    ), lived AS (
        SELECT *, greatest(0, extract(epoch FROM until - admitted_at))::numeric AS seconds FROM gone
    ), written_tokens AS (
        SELECT *, least(max_tokens, ceil(p_rate * (1 + seconds)))::bigint AS output_tokens FROM lived
    ), estimate AS (
        SELECT *, round(least(ceiling, input_cost + output_tokens * output_price / 1000000), 12) AS cost FROM written_tokens
    ), written AS (
        INSERT INTO usage_ledgerentry (
            id, admitted_at, ended_at, credential, virtual_key_id, team_id, customer_id, labels, client_labels,
            endpoint, requested_model, model, stream, provider, provider_key_id, provider_request_id, status,
            http_status, error_type, stop_reason, input_tokens, output_tokens, thinking_tokens,
            cache_read_input_tokens, cache_creation_5m_input_tokens, cache_creation_1h_input_tokens,
            web_search_requests, iterations, service_tier, speed, inference_geo, cost, currency, price_version,
            price_flag, estimated, held, time_to_first_byte_ms, duration_ms, attempts, charges)
        SELECT
            id, admitted_at, greatest(admitted_at, until), credential, virtual_key_id, team_id, customer_id, labels,
            client_labels, endpoint, requested_model, requested_model, stream, provider, provider_key, '',
            'interrupted', NULL, '', '', input_tokens, output_tokens, 0, 0, 0, 0, 0, '[]', '', '', '', cost, 'USD',
            price_version, '', true, ceiling, NULL, least(seconds * 1000, 2147483647)::integer, '[]',
            usage_spent(charges, cost, input_tokens + output_tokens)
        FROM estimate
        RETURNING id, charges
    ), both_sides AS (
        SELECT g.id, c.budget, c.start, c.tokens, c.amount AS held, s.amount AS spent
        FROM gone g JOIN written w USING (id), unnest(g.charges) AS c
        JOIN unnest(w.charges) AS s ON s.budget = c.budget AND s.start = c.start
    ), retained AS (
        INSERT INTO usage_retained (id, retained_at, charges)
        SELECT id, clock_timestamp(), array_agg(ROW(budget, start, held - spent, tokens)::usage_charge)
        FROM both_sides WHERE held > spent GROUP BY id
    )
    SELECT
        (SELECT count(*) FROM written),
        (SELECT array_agg(ROW(budget, start, spent, -least(held, spent))::usage_change) FROM both_sides),
        (SELECT array_agg(ROW(t.throttle, CASE l.kind WHEN 'parallel' THEN -1 ELSE 0 END)::usage_throttle)
        FROM gone, unnest(gone.throttles) AS t JOIN usage_limit l ON l.id = t.throttle)
    INTO ended, changes, freed;
    PERFORM usage_move(changes, freed);
    RETURN ended;
END $$;

-- Take over what dead processes left. A process is dead when its heartbeat is older than its lease; while the database
-- itself has been up for less than one, none is.
CREATE FUNCTION usage_reap(p_lease interval, p_rate integer) RETURNS integer LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    dead uuid[];
    reaped integer;
BEGIN
    IF pg_postmaster_start_time() > clock_timestamp() - p_lease THEN
        RETURN 0;
    END IF;
    SELECT array_agg(id) INTO dead FROM (
        SELECT id FROM usage_process WHERE heartbeat_at < clock_timestamp() - p_lease FOR UPDATE SKIP LOCKED
    ) AS found;
    IF dead IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM usage_writer WHERE process = ANY (dead);  -- waits for groups that are being written
    SELECT usage_interrupt(array_agg(h.id), array_agg(p.heartbeat_at), p_rate) INTO reaped
    FROM usage_hold h JOIN usage_process p ON p.id = h.process WHERE h.process = ANY (dead);
    DELETE FROM usage_process WHERE id = ANY (dead);
    RETURN reaped;
END $$;
