-- The arbiter: admits and settles calls, a group of them in one transaction. See usage.admission for its caller, and
-- budgets.sql for the windows, the counters and the order of locks.

-- What became of a call, and what there is to say about it, as JSON.
CREATE TYPE usage_verdict AS (id uuid, verdict text, detail text);
-- What settlements came to: verdicts on those that were not simply settled, and what the counters change by.
CREATE TYPE usage_closed AS (verdicts usage_verdict[], changes usage_change[], corrections usage_throttle[]);
-- A settled call that counters were held for: what was held of them, what is spent, and tokens by what limits count.
CREATE TYPE usage_ended AS (
    held usage_charge[], spent usage_charge[], throttles usage_throttle[], input_tokens numeric, cached_tokens numeric,
    output_tokens numeric);
-- An admission as it is asked for: usage.arbitration.Admission.
CREATE TYPE usage_asked AS (
    id uuid, credential bigint, revision bigint, catalogue_revision bigint, hold boolean, endpoint text,
    requested_model text, stream boolean, provider text, provider_key bigint, ceiling numeric(30, 12),
    input_tokens bigint,
    input_cost numeric, input_ceiling bigint, max_tokens bigint, output_price numeric, price_version text,
    client_labels jsonb, expires_seconds bigint, shares jsonb, insists boolean);
-- An admission that budgets or limits apply to, and which.
CREATE TYPE usage_counted AS (asked usage_asked, budgets bigint[], throttles bigint[]);
-- What a call needs of a budget's window or of a limit's bucket, and the room in it; `slot` numbers what is locked, and
-- is null where it is not. A full bucket has so much room (of tokens), and gets so much more in a second.
CREATE TYPE usage_need AS (
    slot integer, budget bigint, start timestamptz, tokens boolean, throttle bigint, binding boolean, need numeric,
    room numeric, full_room numeric, pace numeric);
CREATE TYPE usage_weighed AS (
    asked usage_asked, virtual_key_id bigint, team_id bigint, customer_id bigint, labels jsonb, verdict text,
    needs usage_need[]);

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
    ended usage_ended[];
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
        array_agg(s.id) FILTER (WHERE written.id IS NULL),
        array_agg(ROW(
            gone.charges, written.charges, gone.throttles,
            s.input_tokens::numeric + s.cache_creation_5m_input_tokens + s.cache_creation_1h_input_tokens,
            s.cache_read_input_tokens, s.output_tokens)::usage_ended
        ) FILTER (WHERE gone.charges IS NOT NULL OR gone.throttles IS NOT NULL)
    INTO missing, ended
    FROM s LEFT JOIN gone USING (id) LEFT JOIN written USING (id);

    IF ended IS NOT NULL THEN
        SELECT
            (SELECT array_agg(ROW(c.budget, c.start, coalesce(c.spent, 0), -c.held)::usage_change)
            FROM unnest(ended) AS e, LATERAL unnest(e.held, e.spent)
                AS c (budget, start, held, tokens, same_budget, same_start, spent, same_tokens)),
            (SELECT array_agg(ROW(t.throttle, CASE l.kind
                WHEN 'parallel' THEN -1
                WHEN 'output_tpm' THEN e.output_tokens - t.amount
                WHEN 'input_tpm' THEN e.input_tokens + CASE WHEN l.count_cached THEN e.cached_tokens ELSE 0 END - t.amount
                ELSE 0 END)::usage_throttle)
            FROM unnest(ended) AS e, unnest(e.throttles) AS t JOIN usage_limit l ON l.id = t.throttle)
        INTO closed.changes, closed.corrections;
    END IF;
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

-- Who calls with a credential, and whether that may be: a word for what bars it, `stale` where it was not asked by what
-- is known now, or `admitted`. Looking at the clock keeps it apart within the statement that it becomes a part of: each
-- caller is looked up by itself, whatever the planner thinks of tables that were small once.
CREATE FUNCTION usage_caller(p_credential bigint, p_revision bigint, p_catalogue_revision bigint)
RETURNS TABLE (virtual_key_id bigint, team_id bigint, customer_id bigint, labels jsonb, verdict text)
LANGUAGE sql STABLE AS $$
    SELECT v.id, v.team_id, v.customer_id, v.labels, CASE
        WHEN v.revoked_at IS NOT NULL OR c.revoked_at <= clock_timestamp() THEN 'revoked'
        WHEN least(c.expires_at, v.expires_at) <= clock_timestamp() THEN 'expired'
        WHEN NOT v.active THEN 'key paused'
        WHEN t.paused THEN 'team paused'
        WHEN u.paused THEN 'customer paused'
        WHEN g.paused THEN 'gateway paused'
        WHEN v.revision <> p_revision OR coalesce(g.catalogue_revision, 0) <> p_catalogue_revision THEN 'stale'
        ELSE 'admitted' END
    FROM keys_credential c
    JOIN keys_virtualkey v ON v.id = c.virtual_key_id
    LEFT JOIN keys_team t ON t.id = v.team_id
    LEFT JOIN keys_customer u ON u.id = v.customer_id
    LEFT JOIN keys_gateway g ON true
    WHERE c.id = p_credential
$$;

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
    told usage_verdict;
    verdicts usage_verdict[];
    given usage_change[];
    returned usage_throttle[];
    counted usage_counted[];
    budgets bigint[];
    throttles bigint[];
    missing bigint[];
    begun bigint[];
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
        WITH judged AS MATERIALIZED (
            SELECT a.*, a AS asked, k.virtual_key_id, k.team_id, k.customer_id, k.labels, v.verdict,
                CASE WHEN v.verdict = 'admitted' AND a.hold AND (a.ceiling > 0 OR a.max_tokens > 0) THEN ARRAY(
                    SELECT b.id FROM usage_budgets_of(
                        k.customer_id, k.team_id, k.virtual_key_id, a.provider_key, a.requested_model, a.shares) b
                ) ELSE '{}' END AS budgets,
                CASE WHEN v.verdict = 'admitted' AND a.hold AND (a.ceiling > 0 OR a.max_tokens > 0) THEN ARRAY(
                    SELECT l.id FROM usage_limits_of(
                        k.customer_id, k.team_id, k.virtual_key_id, a.provider_key, a.requested_model, a.shares) l
                ) ELSE '{}' END AS throttles
            FROM jsonb_populate_recordset(NULL::usage_asked, p_admissions) AS a
            LEFT JOIN LATERAL usage_caller(a.credential, a.revision, a.catalogue_revision) AS k ON true
            CROSS JOIN LATERAL (SELECT CASE
                WHEN k.verdict = 'admitted' AND NOT a.insists AND EXISTS (
                    SELECT FROM keys_cooldown c WHERE c.provider_key_id = a.provider_key
                        AND (c.model IN ('', a.requested_model) OR a.shares ? c.model) AND c.until > clock_timestamp())
                THEN 'cooling' ELSE coalesce(k.verdict, 'unknown') END) AS v (verdict)
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
            FROM judged WHERE verdict = 'admitted' AND hold AND budgets = '{}' AND throttles = '{}'
        )
        SELECT
            array_agg(ROW(id, verdict, NULL)::usage_verdict) FILTER (WHERE budgets = '{}' AND throttles = '{}'),
            array_agg(ROW(asked, budgets, throttles)::usage_counted) FILTER (WHERE budgets <> '{}' OR throttles <> '{}')
        INTO verdicts, counted
        FROM judged;
        IF verdicts IS NOT NULL THEN
            FOREACH told IN ARRAY verdicts LOOP
                RETURN NEXT told;
            END LOOP;
        END IF;
    END IF;

    IF counted IS NULL THEN
        IF closed.changes IS NOT NULL OR closed.corrections IS NOT NULL THEN
            PERFORM usage_move(closed.changes, closed.corrections);
        END IF;
        RETURN;
    END IF;
    FOR attempt IN 1 .. 2 LOOP
        moment := usage_now();
        SELECT array_agg(b ORDER BY b), array_agg(ROW(b, w.start, 0, 0)::usage_change ORDER BY b),
            array_agg(b) FILTER (WHERE w.start IS NULL)
        INTO budgets, locked, missing
        FROM (SELECT DISTINCT b FROM unnest(counted) AS c, unnest(c.budgets) AS b) AS applying
        LEFT JOIN LATERAL usage_current(b, moment) AS w ON true;
        EXIT WHEN missing IS NULL;
        begun := begun || usage_open_windows(missing);
    END LOOP;
    SELECT array_agg(t ORDER BY t), array_agg(ROW(t, 0)::usage_throttle ORDER BY t),
        array_agg(t ORDER BY t) FILTER (WHERE s.limit_id IS NULL)
    INTO throttles, returned, missing
    FROM (SELECT DISTINCT t FROM unnest(counted) AS c, unnest(c.throttles) AS t) AS applying
    LEFT JOIN usage_limitstate s ON s.limit_id = t;
    IF missing IS NOT NULL THEN
        INSERT INTO usage_limitstate (limit_id, full_at, running) SELECT t, moment, 0 FROM unnest(missing) AS t
        ON CONFLICT DO NOTHING;
    END IF;
    PERFORM usage_lock(closed.changes || locked, closed.corrections || returned);
    IF closed.changes IS NOT NULL THEN
        PERFORM usage_count(closed.changes);
    END IF;
    IF closed.corrections IS NOT NULL THEN
        PERFORM usage_correct(closed.corrections);
    END IF;
    FOREACH told IN ARRAY usage_decide(p_process, counted, budgets, locked, throttles) LOOP
        RETURN NEXT told;
    END LOOP;
    IF begun IS NOT NULL THEN
        -- A rolling window begins with a call that was admitted; nobody has seen this one yet.
        DELETE FROM usage_window w USING unnest(locked) AS l
        WHERE l.budget = ANY (begun) AND w.budget_id = l.budget AND w.start = l.start AND NOT EXISTS (
            SELECT FROM unnest(counted) AS c JOIN usage_hold h ON h.id = (c.asked).id, unnest(h.charges) AS held
            WHERE held.budget = w.budget_id);
    END IF;
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
            'retry_after', greatest(1, ceil(p_wait))::integer, 'language', u.language)
        INTO said
        FROM usage_limit l
        LEFT JOIN keys_virtualkey v ON v.id = l.virtual_key_id
        LEFT JOIN keys_team t ON t.id = l.team_id
        JOIN keys_customer u ON u.id = coalesce(l.customer_id, t.customer_id, v.customer_id)
        WHERE l.id = p_throttle;
    END IF;
    RETURN said::text;
END $$;

-- Decide on calls that budgets or limits apply to, now that their counters are locked, and hold what they may cost.
-- All that applies must allow a call; a refused one changes nothing, so that a smaller one after it may still pass.
-- Verdicts beyond usage_caller's:
--   budget     a budget has too little left; the detail says which, and what was needed
--   limit      it comes too soon, or too many run; the detail says which, and when to try again
-- What is said of an admitted call is how its limits stand after the group, as a list, and that another call like it
-- would not fit a budget before this one is settled.
CREATE FUNCTION usage_decide(
    p_process uuid, p_counted usage_counted[], p_budgets bigint[], p_locked usage_change[], p_throttles bigint[])
RETURNS usage_verdict[] LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := usage_now();
    windows integer := coalesce(cardinality(p_locked), 0);
    calls usage_weighed[];
    admitted usage_weighed[];
    call usage_weighed;
    need usage_need;
    blocker usage_need;
    -- By slot: first the windows, then the buckets.
    rooms numeric[] := array_fill(NULL::numeric, ARRAY[windows + coalesce(cardinality(p_throttles), 0)]);
    taken numeric[] := rooms;
    stands text[];
    room numeric;
    room_there numeric;
    wait numeric;
    longest numeric;
    stood record;
    nearly_empty boolean;
    told usage_verdict;
    verdicts usage_verdict[];
BEGIN
    -- One snapshot: who calls, what applies to it, and what is left.
    SELECT array_agg(ROW(
        c.asked, k.virtual_key_id, k.team_id, k.customer_id, k.labels, k.verdict,
        CASE WHEN k.verdict = 'admitted' THEN ARRAY(
            SELECT ROW(
                CASE WHEN w.start = (p_locked[at.slot]).start THEN at.slot END, b.id, w.start, b.unit = 'tokens', NULL,
                b.enforcement <> 'soft', CASE b.enforcement WHEN 'expected' THEN least(most.need, usage_likely(
                    k.virtual_key_id, (c.asked).requested_model, b.unit = 'tokens')) ELSE most.need END,
                allowed.amount - w.spent - w.held, NULL, NULL)::usage_need
            FROM usage_budgets_of(
                k.customer_id, k.team_id, k.virtual_key_id, (c.asked).provider_key, (c.asked).requested_model,
                (c.asked).shares) AS b
            CROSS JOIN LATERAL (SELECT array_position(p_budgets, b.id)) AS at (slot)
            CROSS JOIN LATERAL (SELECT CASE
                WHEN (c.asked).shares IS NOT NULL AND b.model_patterns <> '{}'
                    THEN usage_share(b.model_patterns, (c.asked).shares, b.unit = 'tokens')
                WHEN b.unit = 'tokens'
                    THEN greatest((c.asked).input_ceiling, (c.asked).input_tokens) + (c.asked).max_tokens
                ELSE (c.asked).ceiling END) AS most (need)
            CROSS JOIN LATERAL usage_allowed(b.id, b.amount, moment) AS allowed
            LEFT JOIN LATERAL usage_current(b.id, moment) AS w ON true
            UNION ALL
            SELECT ROW(
                windows + array_position(p_throttles, l.id), NULL, NULL, NULL, l.id, true, CASE l.kind
                    WHEN 'input_tpm' THEN (c.asked).input_tokens
                    WHEN 'output_tpm' THEN (c.asked).max_tokens
                    ELSE 1 END, CASE l.kind WHEN 'parallel' THEN l.rate - s.running
                    ELSE b.burst - greatest(0, extract(epoch FROM s.full_at - moment)) * l.rate / 60 END,
                CASE WHEN l.kind LIKE '%tpm' THEN b.burst END,
                CASE WHEN l.kind <> 'parallel' THEN l.rate / 60.0 END)::usage_need
            FROM usage_limits_of(
                k.customer_id, k.team_id, k.virtual_key_id, (c.asked).provider_key, (c.asked).requested_model,
                (c.asked).shares) AS l
            CROSS JOIN LATERAL (SELECT usage_bucket(l.rate, l.burst)) AS b (burst)
            LEFT JOIN usage_limitstate s ON s.limit_id = l.id
            -- What lasts for days isn't one of the calls at once, nor are its tokens this minute's.
            WHERE (c.asked).expires_seconds IS NULL OR l.kind = 'rpm'
        ) ELSE '{}' END)::usage_weighed ORDER BY c.number)
    INTO calls
    FROM unnest(p_counted) WITH ORDINALITY AS c (asked, budgets, throttles, number)
    CROSS JOIN LATERAL usage_caller((c.asked).credential, (c.asked).revision, (c.asked).catalogue_revision) AS k;

    -- One after the other, in order of arrival.
    FOREACH call IN ARRAY calls LOOP
        blocker := NULL;
        longest := -1;
        FOREACH need IN ARRAY call.needs LOOP
            IF need.slot IS NULL THEN
                RAISE EXCEPTION 'what applies has changed meanwhile' USING ERRCODE = 'BF002';
            END IF;
            room := coalesce(rooms[need.slot], need.room);
            -- More than a bucket takes passes when it is full.
            IF need.binding AND need.need > room AND room < coalesce(need.full_room, need.need) THEN
                wait := CASE WHEN need.throttle IS NULL THEN 'infinity'
                    ELSE coalesce((least(need.need, need.full_room) - room) / need.pace, 1) END;
                IF wait > longest THEN
                    blocker := need;
                    longest := wait;
                    room_there := room;
                END IF;
            END IF;
        END LOOP;
        IF longest >= 0 THEN
            told := ROW((call.asked).id, CASE WHEN blocker.throttle IS NULL THEN 'budget' ELSE 'limit' END,
                usage_refusal(blocker.budget, blocker.throttle, blocker.need, room_there, longest, moment));
            verdicts := verdicts || told;
        ELSIF call.verdict <> 'admitted' THEN
            told := ROW((call.asked).id, call.verdict, NULL);
            verdicts := verdicts || told;
        ELSE
            FOREACH need IN ARRAY call.needs LOOP
                rooms[need.slot] := coalesce(rooms[need.slot], need.room) - need.need;
                taken[need.slot] := coalesce(taken[need.slot], 0) + need.need;
            END LOOP;
            admitted := admitted || call;
        END IF;
    END LOOP;
    IF admitted IS NULL THEN
        RETURN verdicts;
    END IF;

    INSERT INTO usage_hold (
        id, process, expires_at, admitted_at, credential, virtual_key_id, team_id, customer_id, labels, client_labels,
        endpoint, requested_model, stream, provider, provider_key, ceiling, input_tokens, input_cost, max_tokens,
        output_price, price_version, shares, charges, throttles)
    SELECT
        (asked).id, CASE WHEN (asked).expires_seconds IS NULL THEN p_process END,
        clock_timestamp() + make_interval(secs => (asked).expires_seconds), moment, (asked).credential, virtual_key_id,
        team_id, customer_id, labels, (asked).client_labels, (asked).endpoint, (asked).requested_model, (asked).stream,
        (asked).provider, (asked).provider_key, (asked).ceiling, (asked).input_tokens, (asked).input_cost,
        (asked).max_tokens, (asked).output_price, (asked).price_version, (asked).shares,
        nullif(ARRAY(SELECT ROW(budget, start, need, tokens)::usage_charge FROM unnest(needs) WHERE budget IS NOT NULL), '{}'),
        nullif(ARRAY(SELECT ROW(throttle, need)::usage_throttle FROM unnest(needs) WHERE throttle IS NOT NULL), '{}')
    FROM unnest(admitted);
    IF windows > 0 THEN
        UPDATE usage_window w SET held = w.held + t.amount
        FROM unnest(p_locked, taken) AS t (budget, start, no_spent, no_held, amount)
        WHERE w.budget_id = t.budget AND w.start = t.start AND t.amount > 0;
    END IF;
    FOR stood IN
        UPDATE usage_limitstate s SET
            full_at = CASE WHEN l.kind = 'parallel' THEN s.full_at
                ELSE greatest(s.full_at, moment) + usage_pay_off(t.amount, l.rate) END,
            running = CASE WHEN l.kind = 'parallel' THEN s.running + t.amount::bigint ELSE s.running END
        FROM unnest(p_throttles, taken[windows + 1:]) WITH ORDINALITY AS t (throttle, amount, number)
        JOIN usage_limit l ON l.id = t.throttle
        WHERE s.limit_id = t.throttle AND t.amount IS NOT NULL
        RETURNING t.number, json_build_object(
            'kind', l.kind, 'limit', l.rate,
            'remaining', usage_remaining(l.kind, l.rate, l.burst, s.full_at, s.running, moment),
            'reset', greatest(s.full_at, moment)) AS is_left
    LOOP
        stands[stood.number] := stood.is_left;
    END LOOP;
    FOREACH call IN ARRAY admitted LOOP
        told := ROW((call.asked).id, 'admitted', NULL);
        nearly_empty := false;
        FOREACH need IN ARRAY call.needs LOOP
            IF need.throttle IS NOT NULL THEN
                told.detail := concat_ws(', ', told.detail, stands[need.slot - windows]);
            ELSIF need.binding AND rooms[need.slot] < need.need THEN
                nearly_empty := true;
            END IF;
        END LOOP;
        IF nearly_empty THEN
            told.detail := concat_ws(', ', told.detail, '{"kind": "budget", "remaining": 0}');
        END IF;
        told.detail := '[' || told.detail || ']';
        verdicts := verdicts || told;
    END LOOP;
    RETURN verdicts;
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
