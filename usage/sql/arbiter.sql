-- The arbiter: admits and settles calls, a group of them in one transaction. See usage.admission for its caller.

-- Settle calls: the hold goes, the ledger row comes. Settling again changes nothing. Each gets a verdict:
--   settled    its hold became its ledger row
--   adjusted   it had been taken for interrupted; the difference is now an adjustment of that row
--   repeated   it was settled before
--   unknown    there is neither hold nor row
CREATE OR REPLACE FUNCTION usage_settle(p_settlements jsonb)
RETURNS TABLE (id uuid, verdict text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    missing uuid[];
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
            price_flag, estimated, held, time_to_first_byte_ms, duration_ms, attempts)
        SELECT
            gone.id, gone.admitted_at, gone.admitted_at + make_interval(secs => s.duration_ms / 1000.0),
            gone.credential, gone.virtual_key_id, gone.team_id, gone.customer_id, gone.labels, gone.client_labels,
            gone.endpoint, gone.requested_model, s.model, gone.stream, s.provider, s.provider_key_id,
            s.provider_request_id, s.status, s.http_status, s.error_type, s.stop_reason, s.input_tokens,
            s.output_tokens, s.thinking_tokens, s.cache_read_input_tokens, s.cache_creation_5m_input_tokens,
            s.cache_creation_1h_input_tokens, s.web_search_requests, s.iterations, s.service_tier, s.speed,
            s.inference_geo, s.cost, s.currency, s.price_version, s.price_flag, s.estimated, gone.ceiling,
            s.time_to_first_byte_ms, s.duration_ms, s.attempts
        FROM s JOIN gone USING (id)
        ON CONFLICT (id) DO NOTHING  -- taken for interrupted, then admitted again by a group that was in doubt
        RETURNING id
    )
    SELECT array_agg(s.id) INTO missing FROM s WHERE NOT EXISTS (SELECT FROM written w WHERE w.id = s.id);

    IF missing IS NULL THEN
        RETURN;  -- the usual case: who hears nothing was settled
    END IF;
    RETURN QUERY
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
        RETURNING entry_id
    )
    SELECT s.id, CASE
        WHEN EXISTS (SELECT FROM adjusted a WHERE a.entry_id = s.id) THEN 'adjusted'
        WHEN EXISTS (SELECT FROM usage_ledgerentry e WHERE e.id = s.id) THEN 'repeated'
        ELSE 'unknown' END
    FROM s;
END $$;

-- One group of a process's writer: settlements first, then releases of holds that nobody took, then admissions,
-- each judged by what is committed now. Raises BF001 where the writer's right has gone to another connection or to
-- the reaper.
CREATE OR REPLACE FUNCTION usage_group(
    p_process uuid, p_fence bigint, p_settlements jsonb, p_releases uuid[], p_admissions jsonb)
RETURNS TABLE (id uuid, verdict text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    UPDATE usage_writer SET groups = groups + 1 WHERE process = p_process AND fence = p_fence;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this writer has been replaced' USING ERRCODE = 'BF001';
    END IF;
    IF p_settlements IS NOT NULL THEN
        RETURN QUERY SELECT * FROM usage_settle(p_settlements);
    END IF;
    IF p_releases IS NOT NULL THEN
        DELETE FROM usage_hold h WHERE h.id = ANY (p_releases);
    END IF;
    IF p_admissions IS NOT NULL THEN
        RETURN QUERY
        WITH asked AS MATERIALIZED (
            SELECT * FROM jsonb_to_recordset(p_admissions) AS a (
                id uuid, credential bigint, revision bigint, catalogue_revision bigint, hold boolean, endpoint text,
                requested_model text, stream boolean, provider text, provider_key bigint, ceiling numeric,
                input_tokens bigint, input_cost numeric, max_tokens bigint, output_price numeric, price_version text,
                client_labels jsonb)
        ), judged AS MATERIALIZED (
            SELECT asked.*, v.id AS virtual_key_id, v.team_id, v.customer_id, v.labels, CASE
                WHEN c.id IS NULL THEN 'unknown'
                WHEN c.revoked_at <= clock_timestamp() OR v.revoked_at IS NOT NULL THEN 'revoked'
                WHEN c.expires_at <= clock_timestamp() OR v.expires_at <= clock_timestamp() THEN 'expired'
                WHEN NOT v.active THEN 'key paused'
                WHEN t.paused THEN 'team paused'
                WHEN u.paused THEN 'customer paused'
                WHEN g.paused THEN 'gateway paused'
                WHEN v.revision <> asked.revision
                    OR coalesce(g.catalogue_revision, 0) <> asked.catalogue_revision THEN 'stale'
                ELSE 'admitted' END AS verdict
            FROM asked
            LEFT JOIN keys_gateway g ON true
            LEFT JOIN keys_credential c ON c.id = asked.credential
            LEFT JOIN keys_virtualkey v ON v.id = c.virtual_key_id
            LEFT JOIN keys_team t ON t.id = v.team_id
            LEFT JOIN keys_customer u ON u.id = v.customer_id
        ), held AS (
            INSERT INTO usage_hold (
                id, process, admitted_at, credential, virtual_key_id, team_id, customer_id, labels, client_labels,
                endpoint, requested_model, stream, provider, provider_key, ceiling, input_tokens, input_cost,
                max_tokens, output_price, price_version)
            SELECT
                id, p_process, clock_timestamp(), credential, virtual_key_id, team_id, customer_id, labels,
                client_labels, endpoint, requested_model, stream, provider, provider_key, ceiling, input_tokens,
                input_cost, max_tokens, output_price, price_version
            FROM judged WHERE verdict = 'admitted' AND hold
            ON CONFLICT (id) DO NOTHING  -- asked again after a commit in doubt
        )
        SELECT judged.id, judged.verdict FROM judged;
    END IF;
END $$;

-- End holds whose calls nobody will settle: each becomes an interrupted row, estimated as its input and what a model
-- writes (p_rate tokens a second) in the time up to p_until, when the call is last known to have run.
CREATE OR REPLACE FUNCTION usage_interrupt(p_holds usage_hold[], p_until timestamptz, p_rate integer)
RETURNS integer LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    ended integer;
BEGIN
    WITH gone AS (
        DELETE FROM usage_hold h USING unnest(p_holds) AS p WHERE h.id = p.id RETURNING h.*
    ), lived AS (
        SELECT *, greatest(0, extract(epoch FROM p_until - admitted_at))::numeric AS seconds FROM gone
    ), estimate AS (
        SELECT *, least(max_tokens, ceil(p_rate * (1 + seconds)))::bigint AS output_tokens FROM lived
    )
    INSERT INTO usage_ledgerentry (
        id, admitted_at, ended_at, credential, virtual_key_id, team_id, customer_id, labels, client_labels,
        endpoint, requested_model, model, stream, provider, provider_key_id, provider_request_id, status,
        http_status, error_type, stop_reason, input_tokens, output_tokens, thinking_tokens,
        cache_read_input_tokens, cache_creation_5m_input_tokens, cache_creation_1h_input_tokens,
        web_search_requests, iterations, service_tier, speed, inference_geo, cost, currency, price_version,
        price_flag, estimated, held, time_to_first_byte_ms, duration_ms, attempts)
    SELECT
        id, admitted_at, greatest(admitted_at, p_until), credential, virtual_key_id, team_id, customer_id, labels,
        client_labels, endpoint, requested_model, requested_model, stream, provider, provider_key, '', 'interrupted',
        NULL, '', '', input_tokens, output_tokens, 0, 0, 0, 0, 0, '[]', '', '', '',
        least(ceiling, input_cost + output_tokens * output_price / 1000000), 'USD', price_version, '', true,
        ceiling, NULL, least(seconds * 1000, 2147483647)::integer, '[]'
    FROM estimate;
    GET DIAGNOSTICS ended = ROW_COUNT;
    RETURN ended;
END $$;

-- Take over what dead processes left. A process is dead when its heartbeat is older than its lease; while the database
-- itself has been up for less than one, none is.
CREATE OR REPLACE FUNCTION usage_reap(p_lease interval, p_rate integer)
RETURNS integer LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    dead usage_process;
    reaped integer := 0;
BEGIN
    IF pg_postmaster_start_time() > clock_timestamp() - p_lease THEN
        RETURN 0;
    END IF;
    FOR dead IN
        SELECT * FROM usage_process WHERE heartbeat_at < clock_timestamp() - p_lease FOR UPDATE SKIP LOCKED
    LOOP
        DELETE FROM usage_writer WHERE process = dead.id;  -- waits for a group that is being written
        reaped := reaped + usage_interrupt(
            ARRAY(SELECT h FROM usage_hold h WHERE h.process = dead.id), dead.heartbeat_at, p_rate);
        DELETE FROM usage_process WHERE id = dead.id;
    END LOOP;
    RETURN reaped;
END $$;
