-- The functions that insert holds and ledger rows; nothing else does. Their columns come from usage/arbitration.py.

-- Make holds of calls that are admitted at this moment (or at one of their own). A call that no process will settle
-- gets a hold without a date: the same transaction ends it.
CREATE FUNCTION usage_make_holds(p_process uuid, p_moment timestamptz, p_calls usage_weighed[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_hold (
        {{held: #}}, process, expires_at, admitted_at, virtual_key_id, team_id, customer_id, labels, charges, throttles)
    SELECT
        {{held: (c.asked).#}},
        CASE WHEN (c.asked).expires_seconds IS NULL THEN p_process END,
        CASE WHEN (c.asked).expires_seconds IS NOT NULL
                THEN clock_timestamp() + make_interval(secs => (c.asked).expires_seconds)
            WHEN p_process IS NULL THEN 'infinity' END,
        coalesce((c.asked).admitted_at, p_moment), c.virtual_key_id, c.team_id, c.customer_id, c.labels,
        CASE WHEN c.needs IS NOT NULL THEN nullif(ARRAY(
            SELECT ROW(n.budget, n.start, n.need, n.tokens)::usage_charge
            FROM unnest(c.needs) AS n WHERE n.budget IS NOT NULL), '{}') END,
        CASE WHEN c.needs IS NOT NULL THEN nullif(ARRAY(
            SELECT ROW(n.throttle, n.need)::usage_throttle
            FROM unnest(c.needs) AS n WHERE n.throttle IS NOT NULL), '{}') END
    FROM unnest(p_calls) AS c;
END $$;

-- Make ledger rows of settlements: usage_settled as JSON; what is missing has its default. A row is made once,
-- and only if there is a hold, which names the caller. p_how:
--   settled  the hold is deleted; of what was held, the call's cost is spent
--   expired  the hold is deleted; all that was held is spent
--   opened   the hold stays (p_stays, which the caller has locked); nothing is spent yet
--   part     likewise; the row is one of several, and is charged to the budgets of its model
CREATE FUNCTION usage_make_rows(p_settlements jsonb, p_how text, p_stays usage_hold[] DEFAULT NULL)
RETURNS usage_made LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    made usage_made;
BEGIN
    WITH s AS (
        SELECT DISTINCT ON (id) *, coalesce(call, id) AS hold, usage_tokens(input_tokens, output_tokens,
            cache_read_input_tokens, cache_creation_5m_input_tokens, cache_creation_1h_input_tokens) AS tokens
        FROM jsonb_populate_recordset(ROW({{settlement: ?}}, NULL, NULL, NULL, NULL, NULL)::usage_settled, p_settlements)
    ), gone AS (
        DELETE FROM usage_hold h USING s WHERE h.id = s.hold AND p_stays IS NULL RETURNING h.*
    ), holds AS NOT MATERIALIZED (
        SELECT * FROM gone
        UNION ALL
        SELECT * FROM unnest(p_stays)
    ), written AS (
        INSERT INTO usage_ledgerentry (
            {{settlement: #}}, admitted_at, ended_at, credential, virtual_key_id, team_id, customer_id, labels,
            client_labels, endpoint, requested_model, stream, held, charges)
        SELECT
            {{settlement: s.#}}, h.admitted_at,
            coalesce(s.ended_at, h.admitted_at + make_interval(secs => s.duration_ms / 1000.0)), h.credential,
            h.virtual_key_id, h.team_id, h.customer_id, h.labels, coalesce(s.client_labels, h.client_labels),
            coalesce(s.endpoint, h.endpoint), coalesce(s.requested_model, h.requested_model), h.stream,
            CASE p_how WHEN 'part' THEN 0 ELSE h.ceiling END,
            CASE p_how
                WHEN 'settled' THEN usage_spent(h.charges, usage_owed(s.charge, s.cost), s.tokens)
                WHEN 'expired' THEN h.charges
                WHEN 'part' THEN usage_part_spent(
                    h.charges, h.shares, s.model, usage_owed(s.charge, s.cost), s.tokens) END
        FROM s JOIN holds h ON h.id = s.hold
        ON CONFLICT (id) DO NOTHING  -- it was interrupted, then admitted again by a group that may have been committed
        RETURNING id, usage_owed(charge, cost) AS owed, charges
    )
    SELECT
        count(w.id), coalesce(sum(w.owed), 0),
        array_agg(ROW(
            s.id, h.charges, w.charges, h.throttles,
            s.input_tokens::numeric + s.cache_creation_5m_input_tokens + s.cache_creation_1h_input_tokens,
            s.cache_read_input_tokens, s.output_tokens)::usage_ended
        ) FILTER (WHERE h.charges IS NOT NULL OR h.throttles IS NOT NULL),
        array_agg(s.id) FILTER (WHERE w.id IS NULL)
    INTO made
    FROM s LEFT JOIN holds h ON h.id = s.hold LEFT JOIN written w ON w.id = s.id;
    RETURN made;
END $$;

-- Make the partitions of this month and the following ones, where the ledger is; returns how many are new.
CREATE FUNCTION usage_make_partitions(ahead integer) RETURNS integer LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
    month timestamptz := date_trunc('month', clock_timestamp()) - interval '1 month';
    place text := (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'usage_ledgerentry'::regclass);
    name text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('usage_make_partitions'));
    FOR i IN 0 .. ahead + 1 LOOP
        name := 'usage_ledgerentry_' || to_char(month, 'YYYYMM');
        IF to_regclass(name) IS NULL AND NOT EXISTS (
            SELECT FROM usage_ledgerentry_other o
            WHERE o.id >= usage_first_id(month) AND o.id < usage_first_id(month + interval '1 month')
        ) THEN
            EXECUTE format(
                'CREATE TABLE %s.%I PARTITION OF usage_ledgerentry FOR VALUES FROM (%L) TO (%L)',
                place, name, usage_first_id(month), usage_first_id(month + interval '1 month'));
            made := made + 1;
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN made;
END $$;
