-- Calls whose costs come line by line, days after they were admitted: message batches. Their hold has no process; it
-- lasts until the last line is settled, or until it expires.

-- The id of a call that is a part of another one: in the same millisecond (so in the same month of the ledger), and the
-- same whenever it is asked for, so that settling a line again changes nothing.
CREATE FUNCTION usage_part_id(p_call uuid, p_name text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (left(p_call::text, 14) || '7' || substr(h, 1, 3) || '-8' || substr(h, 4, 3) || '-' || substr(h, 7, 12))::uuid
    FROM encode(sha256(convert_to(p_call::text || p_name, 'UTF8')), 'hex') AS h
$$;

-- The call that made a batch has been answered: its row is written, which costs nothing, and its hold stays.
CREATE FUNCTION usage_open(p_settlement jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_ledgerentry
    SELECT r.* FROM usage_hold h, LATERAL jsonb_populate_record(
        NULL::usage_ledgerentry,
        to_jsonb(h) || p_settlement || jsonb_build_object(
            'held', h.ceiling, 'charges', NULL, 'xid', pg_current_xact_id()::text,
            'ended_at', h.admitted_at + make_interval(secs => (p_settlement ->> 'duration_ms')::bigint / 1000.0))
    ) AS r
    WHERE h.id = (p_settlement ->> 'id')::uuid
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$;

-- Settle lines of a batch: each becomes a row of its own, once; the hold shrinks by what they cost, and is gone with the
-- last one. A line is a settlement with its `part`, which names it within the batch, and `ended_at`; who called is copied
-- from the row of the call that made the batch. Returns how many lines were not settled before.
CREATE FUNCTION usage_settle_parts(p_call uuid, p_lines jsonb, p_last boolean)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    held usage_hold;
    made usage_ledgerentry;
    new_lines integer;
    new_cost numeric;
    charges_left usage_charge[];
    changes usage_change[];
BEGIN
    SELECT * INTO held FROM usage_hold WHERE id = p_call FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;  -- all is settled, or has expired
    END IF;
    SELECT * INTO made FROM usage_ledgerentry WHERE id = p_call;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the call that made this batch has no row yet';
    END IF;
    WITH written AS (
        INSERT INTO usage_ledgerentry
        SELECT r.* FROM jsonb_array_elements(p_lines) AS line, LATERAL jsonb_populate_record(
            made,
            line || jsonb_build_object(
                'id', usage_part_id(p_call, line ->> 'part'), 'held', 0, 'xid', pg_current_xact_id()::text,
                'charges', usage_part_spent(held.charges, held.shares, line ->> 'model',
                    (line ->> 'cost')::numeric(30, 12), usage_tokens(
                        (line ->> 'input_tokens')::bigint, (line ->> 'output_tokens')::bigint,
                        (line ->> 'cache_read_input_tokens')::bigint,
                        (line ->> 'cache_creation_5m_input_tokens')::bigint,
                        (line ->> 'cache_creation_1h_input_tokens')::bigint)),
                'client_labels', made.client_labels || coalesce(line -> 'client_labels', '{}'))
        ) AS r
        ON CONFLICT DO NOTHING
        RETURNING *
    )
    SELECT count(*), coalesce(sum(cost), 0),
        (SELECT array_agg(ROW(c.budget, c.start, c.amount, 0)::usage_change) FROM written w, unnest(w.charges) AS c)
    INTO new_lines, new_cost, changes FROM written;
    -- What is spent is no longer held; what is over was never held.
    SELECT array_agg(ROW(c.budget, c.start, CASE WHEN p_last THEN 0 ELSE greatest(0, c.amount - s.spent) END,
            c.tokens)::usage_charge),
        array_agg(ROW(c.budget, c.start, s.spent,
            -CASE WHEN p_last THEN c.amount ELSE least(c.amount, s.spent) END)::usage_change)
    INTO charges_left, changes
    FROM unnest(held.charges) AS c, LATERAL (
        SELECT coalesce(sum(n.spent), 0) FROM unnest(changes) AS n WHERE n.budget = c.budget AND n.start = c.start
    ) AS s (spent);
    IF p_last THEN
        DELETE FROM usage_hold WHERE id = p_call;
    ELSIF new_lines > 0 THEN
        UPDATE usage_hold SET ceiling = greatest(0, ceiling - new_cost), charges = charges_left WHERE id = p_call;
    END IF;
    PERFORM usage_move(changes, NULL);
    IF new_cost > held.ceiling THEN
        PERFORM usage_overran(p_call, held.virtual_key_id, new_cost, held.ceiling);
    END IF;
    RETURN new_lines;
END $$;

-- Holds whose date has passed become interrupted rows that cost all that is still held: nobody ever told what it came to.
CREATE FUNCTION usage_expire() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    expired integer;
    changes usage_change[];
BEGIN
    WITH due AS (
        SELECT id FROM usage_hold WHERE expires_at < clock_timestamp() ORDER BY id FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM usage_hold h USING due WHERE h.id = due.id RETURNING h.*
    ), written AS (
        INSERT INTO usage_ledgerentry
        SELECT r.* FROM gone, LATERAL jsonb_populate_record(
        NULL::usage_ledgerentry,
        to_jsonb(gone) || jsonb_build_object(
            'id', usage_part_id(gone.id, 'expired'), 'ended_at', gone.expires_at, 'model', gone.requested_model,
            'provider_key_id', gone.provider_key, 'provider_request_id', '', 'status', 'interrupted', 'error_type', '',
            'stop_reason', '', 'output_tokens', 0, 'thinking_tokens', 0, 'cache_read_input_tokens', 0,
            'cache_creation_5m_input_tokens', 0, 'cache_creation_1h_input_tokens', 0, 'web_search_requests', 0,
            'iterations', '[]'::jsonb, 'service_tier', '', 'speed', '', 'inference_geo', '', 'cost', gone.ceiling,
            'currency', 'USD', 'price_flag', '', 'estimated', true, 'held', gone.ceiling, 'duration_ms', 0,
            'attempts', '[]'::jsonb, 'xid', pg_current_xact_id()::text)
    ) AS r
    RETURNING charges
    )
    SELECT (SELECT count(*) FROM written), (
        SELECT array_agg(ROW(c.budget, c.start, c.amount, -c.amount)::usage_change) FROM gone, unnest(gone.charges) AS c)
    INTO expired, changes;
    PERFORM usage_move(changes, NULL);
    RETURN expired;
END $$;
