-- Counters: what calls spend of budgets, and what limits have counted.
--
-- Order of locks, for every transaction: holds, budgets (rolling ones that need a new window), windows by (budget,
-- start), states of limits by limit. Transactions with this order can't deadlock.

-- What the owner of a call pays. A row without a charge costs the owner what the provider charges.
CREATE FUNCTION usage_owed(p_charge numeric, p_cost numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(p_charge, p_cost)
$$;

-- What the owner pays, by category of tokens (usage/splits.py).
CREATE FUNCTION usage_split_owed(p_charge numeric, p_charge_split numeric[], p_cost_split numeric[])
RETURNS numeric[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_charge IS NULL THEN p_cost_split ELSE p_charge_split END
$$;

-- The difference of two splits; null if both are null.
CREATE FUNCTION usage_split_less(p_one numeric[], p_other numeric[]) RETURNS numeric[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(coalesce(p_one[n], 0) - coalesce(p_other[n], 0) ORDER BY n)
    FROM generate_series(1, greatest(cardinality(p_one), cardinality(p_other))) AS n
$$;

-- What budgets of tokens count: all that a model reads, from caches too, and writes. Impossibly large counts of broken
-- providers are cut to what counters can hold.
CREATE FUNCTION usage_tokens(
    p_input bigint, p_output bigint, p_cache_read bigint, p_cache_5m bigint, p_cache_1h bigint)
RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(-1e15, least(1e15, p_input::numeric + p_output + p_cache_read + p_cache_5m + p_cache_1h))
$$;

-- The lowest UUIDv7 of a moment.
CREATE FUNCTION usage_first_id(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- What a call of this key and model is likely to cost: the mean of the last ones and two standard deviations more; null
-- where there are too few of them. The case of the model's name doesn't matter.
CREATE FUNCTION usage_likely(p_virtual_key bigint, p_model text, p_tokens boolean)
RETURNS numeric LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT CASE WHEN count(*) >= 5
        THEN round(avg(amount) + 2 * stddev_pop(amount), CASE WHEN p_tokens THEN 0 ELSE 12 END) END
    FROM (
        SELECT CASE WHEN p_tokens THEN usage_tokens(input_tokens, output_tokens, cache_read_input_tokens,
            cache_creation_5m_input_tokens, cache_creation_1h_input_tokens) ELSE usage_owed(charge, cost) END AS amount
        FROM (
            SELECT * FROM usage_ledgerentry e
            WHERE e.virtual_key_id = p_virtual_key AND e.id >= usage_first_id(clock_timestamp() - interval '7 days')
            ORDER BY e.id DESC LIMIT 64
        ) AS lately
        WHERE lower(requested_model COLLATE "C") = lower(p_model COLLATE "C") AND endpoint = 'messages'
            AND status = 'completed' LIMIT 32
    ) AS alike);
END $$;

-- The charges of a hold with what the call has spent. Null where no budget applied.
CREATE FUNCTION usage_spent(p_charges usage_charge[], p_cost numeric, p_tokens numeric)
RETURNS usage_charge[] LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    FOR i IN 1 .. cardinality(p_charges) LOOP
        p_charges[i].amount := CASE WHEN p_charges[i].tokens THEN p_tokens ELSE p_cost END;
    END LOOP;
    RETURN p_charges;
END $$;

-- What one line of a call of several models has spent of the call's hold. A budget of some models is
-- charged with the lines of those, and with lines that may have asked one of them besides. A provider may name a model
-- by its date; a line of a model that the call didn't ask for, or without a name, is charged to all.
CREATE FUNCTION usage_part_spent(
    p_charges usage_charge[], p_shares jsonb, p_model text, p_cost numeric, p_tokens numeric)
RETURNS usage_charge[] LANGUAGE plpgsql STABLE AS $$
DECLARE
    asked text := (
        SELECT model FROM jsonb_object_keys(p_shares) AS model
        WHERE usage_same_model(usage_model_identity(model), usage_model_identity(p_model))
            OR starts_with(lower(p_model COLLATE "C"), lower(model COLLATE "C") || '-')
        ORDER BY model = p_model DESC, length(model) DESC LIMIT 1);
BEGIN
    IF asked IS NULL THEN
        RETURN usage_spent(p_charges, p_cost, p_tokens);
    END IF;
    RETURN nullif(ARRAY(
        SELECT c FROM unnest(usage_spent(p_charges, p_cost, p_tokens)) AS c JOIN usage_budget b ON b.id = c.budget
        WHERE b.model_patterns = '{}' OR usage_matches_share(b.model_patterns, asked, p_shares -> asked)
            OR usage_matches(b.model_patterns, p_model)), '{}');
END $$;

-- Change the counters of windows that are locked, and note the thresholds that spending has passed.
CREATE FUNCTION usage_count(p_changes usage_change[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    -- As a variable: a function whose argument is the clock itself can't be inlined.
    moment timestamptz := usage_now();
BEGIN
    WITH counted AS (
        UPDATE usage_window w SET spent = w.spent + c.spent, held = w.held + c.held
        FROM (
            SELECT budget, start, sum(spent) AS spent, sum(held) AS held FROM unnest(p_changes) GROUP BY budget, start
        ) AS c
        WHERE w.budget_id = c.budget AND w.start = c.start
        RETURNING w.budget_id, w.start, w.spent, c.spent AS more
    )
    INSERT INTO usage_alert (budget_id, start, threshold, spent, amount, at)
    SELECT c.budget_id, c.start, passed.percent, c.spent, allowed.amount, moment
    FROM counted c JOIN usage_budget b ON b.id = c.budget_id,
    LATERAL usage_allowed(b.id, b.amount, moment) AS allowed,
    LATERAL unnest(b.thresholds) AS passed (percent)
    WHERE c.more > 0 AND c.spent * 100 >= allowed.amount * passed.percent AND NOT EXISTS (
        SELECT FROM usage_alert a
        WHERE a.budget_id = c.budget_id AND a.start = c.start AND a.threshold = passed.percent)
    ON CONFLICT DO NOTHING;
END $$;

-- How long a bucket takes to gain an amount, at most a day.
CREATE FUNCTION usage_pay_off(p_amount numeric, p_rate numeric) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
    SELECT make_interval(secs => greatest(-86400, least(86400, p_amount * 60 / p_rate))::double precision)
$$;

-- Correct what limits have counted, in the limits' own units; their states are locked.
CREATE FUNCTION usage_correct(p_corrections usage_throttle[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE usage_limitstate s SET
        full_at = CASE WHEN l.kind = 'parallel' THEN s.full_at
            ELSE s.full_at + usage_pay_off(c.amount, l.rate) END,
        running = CASE WHEN l.kind = 'parallel' THEN s.running + c.amount::bigint ELSE s.running END
    FROM (SELECT throttle, sum(amount) AS amount FROM unnest(p_corrections) GROUP BY throttle) AS c
    JOIN usage_limit l ON l.id = c.throttle
    WHERE s.limit_id = c.throttle AND c.amount <> 0;
END $$;

-- Lock the rows of these changes and corrections, in the common order.
CREATE FUNCTION usage_lock(p_changes usage_change[], p_corrections usage_throttle[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_changes IS NOT NULL THEN
        PERFORM FROM (SELECT DISTINCT budget, start FROM unnest(p_changes) ORDER BY budget, start) AS c, LATERAL (
            SELECT FROM usage_window w WHERE w.budget_id = c.budget AND w.start = c.start FOR UPDATE) AS w;
    END IF;
    IF p_corrections IS NOT NULL THEN
        PERFORM FROM (SELECT DISTINCT throttle FROM unnest(p_corrections) ORDER BY throttle) AS c, LATERAL (
            SELECT FROM usage_limitstate s WHERE s.limit_id = c.throttle FOR UPDATE) AS s;
    END IF;
END $$;

-- Lock and change, for callers that admit no call.
CREATE FUNCTION usage_move(p_changes usage_change[], p_corrections usage_throttle[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM usage_lock(p_changes, p_corrections);
    IF p_changes IS NOT NULL THEN
        PERFORM usage_count(p_changes);
    END IF;
    IF p_corrections IS NOT NULL THEN
        PERFORM usage_correct(p_corrections);
    END IF;
END $$;
