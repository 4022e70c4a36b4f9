-- A call waits for cool-downs of the models that it is for, not of the one that was asked for: a fallback goes out while
-- the primary model cools down, and an alias cools down by the name of the model that it stands for.

-- Whether a cool-down of a model (empty: of all) is one of a call's: of the models that it has shares of, or else of the
-- one that was asked for.
CREATE FUNCTION usage_is_for(p_model text, p_requested_model text, p_shares jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT p_model = '' OR CASE WHEN p_shares IS NULL THEN p_model = p_requested_model ELSE p_shares ? p_model END
$$;

-- One group of a process's writer: settlements first, then releases of holds that nobody took, then admissions,
-- each judged by what is committed now. Raises BF001 where the writer's right has gone to another connection or to
-- the reaper, BF002 where what was locked turns out not to be what counts now: ask again.
CREATE OR REPLACE FUNCTION usage_group(
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
                        AND usage_is_for(c.model, a.requested_model, a.shares) AND c.until > clock_timestamp())
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
