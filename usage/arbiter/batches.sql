-- Message batches: calls whose costs become known line by line, days after their admission. Their hold has no process.
-- It lasts until the last line is settled, or until it expires.

-- The id of a part of a call: in the same millisecond (so in the same month of the ledger), and always the same, so
-- that settling a line again changes nothing.
CREATE FUNCTION usage_part_id(p_call uuid, p_name text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (left(p_call::text, 14) || '7' || substr(h, 1, 3) || '-8' || substr(h, 4, 3) || '-' || substr(h, 7, 12))::uuid
    FROM encode(sha256(convert_to(p_call::text || p_name, 'UTF8')), 'hex') AS h
$$;

-- Write the row of a call that created a batch, once it is answered. The row has no cost, and the hold stays.
CREATE FUNCTION usage_open(p_settlement jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    held usage_hold;
BEGIN
    SELECT * INTO held FROM usage_hold WHERE id = (p_settlement ->> 'id')::uuid FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    RETURN (usage_make_rows(jsonb_build_array(p_settlement), 'opened', ARRAY[held])).written > 0;
END $$;

-- Settle lines of a batch: each becomes a row of its own, once; the hold shrinks by what they cost, and is deleted with
-- the last one. A line is a settlement with its `part`, which names it within the batch, and `ended_at`; what it leaves
-- out is copied from the row of the call that made the batch. Returns how many lines were not settled before.
CREATE FUNCTION usage_settle_parts(p_call uuid, p_lines jsonb, p_last boolean)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    held usage_hold;
    opened jsonb;
    made usage_made;
    charges_left usage_charge[];
    changes usage_change[];
BEGIN
    SELECT * INTO held FROM usage_hold WHERE id = p_call FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;  -- everything is settled, or the hold has expired
    END IF;
    SELECT to_jsonb(e) INTO opened FROM usage_ledgerentry e WHERE e.id = p_call;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the call that made this batch has no row yet';
    END IF;
    made := usage_make_rows((
        SELECT jsonb_agg(opened || line || jsonb_build_object(
            'id', usage_part_id(p_call, line ->> 'part'), 'call', p_call,
            'client_labels', (opened -> 'client_labels') || coalesce(line -> 'client_labels', '{}')))
        FROM jsonb_array_elements(p_lines) AS line
    ), 'part', ARRAY[held]);
    -- Spent amounts are no longer held. What exceeds the hold was never held.
    WITH spent AS (
        SELECT c.budget, c.start, sum(c.amount) AS amount
        FROM unnest(made.ended) AS e, unnest(e.spent) AS c GROUP BY c.budget, c.start
    )
    SELECT array_agg(ROW(c.budget, c.start, CASE WHEN p_last THEN 0 ELSE greatest(0, c.amount - s.amount) END,
            c.tokens)::usage_charge),
        array_agg(ROW(c.budget, c.start, s.amount,
            -CASE WHEN p_last THEN c.amount ELSE least(c.amount, s.amount) END)::usage_change)
    INTO charges_left, changes
    FROM unnest(held.charges) AS c, LATERAL (
        SELECT coalesce(sum(s.amount), 0) FROM spent s WHERE s.budget = c.budget AND s.start = c.start
    ) AS s (amount);
    IF p_last THEN
        DELETE FROM usage_hold WHERE id = p_call;
    ELSIF made.written > 0 THEN
        UPDATE usage_hold SET ceiling = greatest(0, ceiling - made.owed), charges = charges_left WHERE id = p_call;
    END IF;
    PERFORM usage_move(changes, NULL);
    IF made.owed > held.ceiling THEN
        PERFORM usage_overran(p_call, held.virtual_key_id, made.owed, held.ceiling);
    END IF;
    RETURN made.written;
END $$;
