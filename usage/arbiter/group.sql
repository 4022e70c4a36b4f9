-- One group of a process's writer (usage.admission): settlements first, then releases of holds whose calls were not
-- made, then admissions, which are decided by what is committed now. Raises BF001 if another connection or the reaper
-- has moved the writer's fence, and BF002 if other counters apply now than were locked: ask again.
CREATE FUNCTION usage_group(
    p_process uuid, p_fence bigint, p_settlements jsonb, p_releases uuid[], p_admissions jsonb)
RETURNS SETOF usage_verdict LANGUAGE plpgsql
-- A connection keeps its plans, so they must suit large tables from the start. That makes them look expensive, which is
-- no reason to compile them.
SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    closed usage_closed;
    verdict usage_verdict;
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
        -- Most calls have no budget or limit: these are admitted here.
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
            -- As usage_make_holds does it. A statement of its own would make a lone call cost a tenth more.
            INSERT INTO usage_hold (
                {{held: #}}, process, expires_at, admitted_at, virtual_key_id, team_id, customer_id, labels)
            SELECT
                {{held: #}}, CASE WHEN expires_seconds IS NULL THEN p_process END,
                clock_timestamp() + make_interval(secs => expires_seconds), usage_now(), virtual_key_id, team_id,
                customer_id, labels
            FROM judged WHERE verdict = 'admitted' AND hold AND budgets = '{}' AND throttles = '{}'
        )
        SELECT
            array_agg(ROW(id, verdict, NULL)::usage_verdict) FILTER (WHERE budgets = '{}' AND throttles = '{}'),
            array_agg(ROW(asked, budgets, throttles)::usage_counted) FILTER (WHERE budgets <> '{}' OR throttles <> '{}')
        INTO verdicts, counted
        FROM judged;
        IF verdicts IS NOT NULL THEN
            FOREACH verdict IN ARRAY verdicts LOOP
                RETURN NEXT verdict;
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
    FOREACH verdict IN ARRAY usage_decide(p_process, counted, budgets, locked, throttles) LOOP
        RETURN NEXT verdict;
    END LOOP;
    IF begun IS NOT NULL THEN
        -- A rolling window begins with a call that was admitted; no other transaction has seen this one yet.
        DELETE FROM usage_window w USING unnest(locked) AS l
        WHERE l.budget = ANY (begun) AND w.budget_id = l.budget AND w.start = l.start AND NOT EXISTS (
            SELECT FROM unnest(counted) AS c JOIN usage_hold h ON h.id = (c.asked).id, unnest(h.charges) AS held
            WHERE held.budget = w.budget_id);
    END IF;
END $$;
