-- How calls end: settled, adjusted, or interrupted because nothing settles them.

-- Settle calls: the hold is deleted, the ledger row is written. Settling again changes nothing. The counters are left
-- to the caller. A call that simply became its ledger row gets no verdict; the others:
--   adjusted   it already had an interrupted row; the difference is now an adjustment of that row
--   repeated   it was settled before
--   unknown    there is neither hold nor row
CREATE FUNCTION usage_close(p_settlements jsonb) RETURNS usage_closed LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    made usage_made := usage_make_rows(p_settlements, 'settled');
    closed usage_closed;
    late usage_change[];
BEGIN
    IF made.ended IS NOT NULL THEN
        SELECT
            (SELECT array_agg(ROW(c.budget, c.start, coalesce(c.spent, 0), -c.held)::usage_change)
            FROM unnest(made.ended) AS e, LATERAL unnest(e.held, e.spent)
                AS c (budget, start, held, tokens, same_budget, same_start, spent, same_tokens)),
            (SELECT array_agg(ROW(t.throttle, CASE l.kind
                WHEN 'parallel' THEN -1
                WHEN 'output_tpm' THEN e.output_tokens - t.amount
                WHEN 'input_tpm' THEN e.input_tokens + CASE WHEN l.count_cached THEN e.cached_tokens ELSE 0 END - t.amount
                ELSE 0 END)::usage_throttle)
            FROM unnest(made.ended) AS e, unnest(e.throttles) AS t JOIN usage_limit l ON l.id = t.throttle)
        INTO closed.changes, closed.corrections;
    END IF;
    IF made.missing IS NULL THEN
        RETURN closed;
    END IF;
    WITH s AS (
        SELECT DISTINCT ON (id) * FROM jsonb_populate_recordset(
            ROW({{settlement: ?}}, NULL, NULL, NULL, NULL, NULL)::usage_settled, p_settlements)
        WHERE id = ANY (made.missing)
    ), adjusted AS (
        INSERT INTO usage_adjustment (
            entry_id, reason, author, detail, {{tokens: #}}, charge, cost_split, charge_split)
        SELECT s.id, 'late_settlement', '', jsonb_strip_nulls(to_jsonb(s)), {{tokens: s.# - e.#}},
            CASE WHEN s.charge IS NOT NULL OR e.charge IS NOT NULL
                THEN usage_owed(s.charge, s.cost) - usage_owed(e.charge, e.cost) END,
            usage_split_less(s.cost_split, e.cost_split),
            CASE WHEN s.charge IS NOT NULL OR e.charge IS NOT NULL THEN usage_split_less(
                usage_split_owed(s.charge, s.charge_split, s.cost_split),
                usage_split_owed(e.charge, e.charge_split, e.cost_split)) END
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
            unnest(usage_spent(e.charges, usage_owed(a.charge, a.cost), usage_tokens(a.input_tokens, a.output_tokens,
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

-- The settlement, as JSON, of a call that nothing settles: what its owner pays and the tokens it wrote are estimates,
-- and so is the part of it that the provider charges.
CREATE FUNCTION usage_estimate(p_hold usage_hold, p_ended_at timestamptz, p_output_tokens bigint, p_owed numeric)
RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN to_jsonb(p_hold) || jsonb_build_object(
        'status', 'interrupted', 'model', p_hold.requested_model, 'provider_key_id', p_hold.provider_key,
        'ended_at', p_ended_at, 'output_tokens', p_output_tokens,
        'cost', round(p_owed * coalesce(p_hold.cost_factor, 1), 12),
        'charge', CASE WHEN p_hold.cost_factor IS NOT NULL THEN p_owed END, 'estimated', true);
END $$;

-- End the holds of calls whose processes died: each becomes an interrupted row, estimated as its input and what a model
-- writes (p_rate tokens a second) until p_until, the last time at which the call is known to have run. That estimate is
-- spent. The rest of the hold is retained until usage_give_back, because the call may still cost it.
CREATE FUNCTION usage_interrupt(p_calls uuid[], p_until timestamptz[], p_rate integer)
RETURNS integer LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    made usage_made;
    changes usage_change[];
    freed usage_throttle[];
BEGIN
    made := usage_make_rows((
        SELECT jsonb_agg(
            usage_estimate(ROW(h.*)::usage_hold, greatest(h.admitted_at, p.until), written.tokens, round(
                least(h.ceiling, h.input_cost + written.tokens * h.output_price / 1000000), 12))
            || jsonb_build_object('duration_ms', least(lived.seconds * 1000, 2147483647)::integer))
        FROM (SELECT * FROM usage_hold WHERE id = ANY (p_calls) ORDER BY id FOR UPDATE) AS h
        JOIN unnest(p_calls, p_until) AS p (call, until) ON p.call = h.id,
        LATERAL (SELECT greatest(0, extract(epoch FROM p.until - h.admitted_at))::numeric) AS lived (seconds),
        LATERAL (SELECT least(h.max_tokens, ceil(p_rate * (1 + lived.seconds)))::bigint) AS written (tokens)
    ), 'settled');
    WITH charged AS (
        SELECT e.id, h.budget, h.start, h.tokens, h.amount AS held, s.amount AS spent
        FROM unnest(made.ended) AS e, unnest(e.held) AS h
        JOIN unnest(e.spent) AS s ON s.budget = h.budget AND s.start = h.start
    ), retained AS (
        INSERT INTO usage_retained (id, retained_at, charges)
        SELECT id, clock_timestamp(), array_agg(ROW(budget, start, held - spent, tokens)::usage_charge)
        FROM charged WHERE held > spent GROUP BY id
    )
    SELECT
        (SELECT array_agg(ROW(budget, start, spent, -least(held, spent))::usage_change) FROM charged),
        (SELECT array_agg(ROW(t.throttle, CASE l.kind WHEN 'parallel' THEN -1 ELSE 0 END)::usage_throttle)
        FROM unnest(made.ended) AS e, unnest(e.throttles) AS t JOIN usage_limit l ON l.id = t.throttle)
    INTO changes, freed;
    PERFORM usage_move(changes, freed);
    RETURN made.written;
END $$;

-- Interrupt the calls of dead processes. A process is dead when its heartbeat is older than its lease; while the
-- database itself has been up for less than one, all count as alive.
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

-- Holds whose date has passed become interrupted rows that cost all that is still held, because their results were
-- never read.
CREATE FUNCTION usage_expire() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    made usage_made;
    changes usage_change[];
BEGIN
    made := usage_make_rows((
        SELECT jsonb_agg(usage_estimate(ROW(h.*)::usage_hold, h.expires_at, 0, h.ceiling)
            || jsonb_build_object('id', usage_part_id(h.id, 'expired'), 'call', h.id))
        FROM (
            SELECT * FROM usage_hold WHERE expires_at < clock_timestamp() ORDER BY id FOR UPDATE SKIP LOCKED
        ) AS h
    ), 'expired');
    SELECT array_agg(ROW(c.budget, c.start, c.amount, -c.amount)::usage_change) INTO changes
    FROM unnest(made.ended) AS e, unnest(e.held) AS c;
    PERFORM usage_move(changes, NULL);
    RETURN made.written;
END $$;

-- Give back what was retained for calls without a known end: for the given calls, or for all older than an
-- age. Returns of
-- how many.
CREATE FUNCTION usage_give_back(p_calls uuid[], p_age interval) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    changes usage_change[];
    given integer;
    before timestamptz := clock_timestamp() - p_age;
BEGIN
    WITH due AS (
        SELECT r.id FROM usage_retained r
        WHERE r.id = ANY (p_calls) OR r.retained_at < before ORDER BY r.id FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM usage_retained r USING due WHERE r.id = due.id RETURNING r.id, r.charges
    )
    SELECT count(DISTINCT gone.id), array_agg(ROW(c.budget, c.start, 0, -c.amount)::usage_change)
        FILTER (WHERE c.budget IS NOT NULL)
    INTO given, changes FROM gone LEFT JOIN LATERAL unnest(gone.charges) AS c ON true;
    PERFORM usage_move(changes, NULL);
    RETURN given;
END $$;
