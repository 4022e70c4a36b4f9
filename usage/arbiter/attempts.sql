-- Hold more for a call, before another attempt (messages_api/relay/attempts.py): what the attempts before may have cost
-- (p_cost USD, p_tokens), and the full amount (p_most_tokens: all tokens) for budgets that apply to the next provider
-- key and model and did not apply before. Returns true if it is held; otherwise nothing has changed. What is held
-- already stays in the window of its admission.
CREATE FUNCTION usage_hold_more(
    p_call uuid, p_provider text, p_provider_key bigint, p_model text, p_cost numeric, p_tokens numeric,
    p_most_tokens numeric)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    held usage_hold;
    budgets bigint[];
    throttled bigint[];
    moment timestamptz;
    more usage_change[];
    charged usage_charge[];
    taken usage_throttle[];
    exhausted usage_need[];
BEGIN
    SELECT * INTO held FROM usage_hold WHERE id = p_call FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT array_agg(b.id) INTO budgets
    FROM usage_budgets_of(held.customer_id, held.team_id, held.virtual_key_id, p_provider_key, p_model, NULL) AS b
    WHERE NOT EXISTS (SELECT FROM unnest(held.charges) AS c WHERE c.budget = b.id);
    SELECT array_agg(l.id) INTO throttled
    FROM usage_limits_of(held.customer_id, held.team_id, held.virtual_key_id, p_provider_key, p_model, NULL) AS l
    WHERE NOT EXISTS (SELECT FROM unnest(held.throttles) AS t WHERE t.throttle = l.id);
    PERFORM usage_open_windows(budgets);
    moment := usage_now();
    SELECT
        array_agg(ROW(c.budget, c.start, 0, CASE WHEN c.tokens THEN p_tokens ELSE p_cost END)::usage_change),
        array_agg(ROW(c.budget, c.start, c.amount + CASE WHEN c.tokens THEN p_tokens ELSE p_cost END, c.tokens)
            ::usage_charge)
    INTO more, charged FROM unnest(held.charges) AS c;
    SELECT
        more || array_agg(ROW(b.id, w.start, 0, need.amount)::usage_change),
        charged || array_agg(ROW(b.id, w.start, need.amount, b.unit = 'tokens')::usage_charge)
    INTO more, charged
    FROM unnest(budgets) AS budget JOIN usage_budget b ON b.id = budget, usage_current(b.id, moment) AS w,
    LATERAL (SELECT CASE WHEN b.unit = 'tokens' THEN p_most_tokens ELSE held.ceiling + p_cost END) AS need (amount);
    INSERT INTO usage_limitstate (limit_id, full_at, running)
    SELECT t, moment, 0 FROM unnest(throttled) AS t ORDER BY t ON CONFLICT DO NOTHING;
    SELECT array_agg(ROW(l.id, CASE l.kind WHEN 'input_tpm' THEN held.input_tokens
        WHEN 'output_tpm' THEN held.max_tokens ELSE 1 END)::usage_throttle)
    INTO taken FROM unnest(throttled) AS t JOIN usage_limit l ON l.id = t;
    PERFORM usage_lock(more, taken);

    SELECT array_agg(ROW(NULL, m.budget, m.start, NULL, NULL, true, m.held, left_there.amount, NULL, NULL)::usage_need)
    INTO exhausted
    FROM unnest(more) AS m JOIN usage_budget b ON b.id = m.budget
    JOIN usage_window w ON w.budget_id = m.budget AND w.start = m.start,
    usage_allowed(b.id, b.amount, moment) AS allowed,
    LATERAL (SELECT allowed.amount - w.spent - w.held) AS left_there (amount)
    WHERE b.active AND b.enforcement <> 'soft' AND m.held > 0 AND m.held > left_there.amount;
    IF exhausted IS NOT NULL THEN
        PERFORM usage_tell_of_exhausted(exhausted, moment);
        RETURN false;
    END IF;
    IF EXISTS (
        SELECT FROM unnest(taken) AS t JOIN usage_limit l ON l.id = t.throttle
        JOIN usage_limitstate s ON s.limit_id = l.id,
        LATERAL (SELECT usage_bucket(l.kind, l.rate, l.burst)) AS bucket (size)
        WHERE CASE l.kind WHEN 'parallel' THEN s.running >= l.rate
            ELSE least(t.amount, bucket.size)
                > bucket.size - greatest(0, extract(epoch FROM s.full_at - moment)) * l.rate / 60 END
    ) THEN
        RETURN false;
    END IF;

    UPDATE usage_limitstate s SET
        full_at = CASE WHEN l.kind = 'parallel' THEN s.full_at
            ELSE greatest(s.full_at, moment) + usage_pay_off(t.amount, l.rate) END,
        running = CASE WHEN l.kind = 'parallel' THEN s.running + 1 ELSE s.running END
    FROM unnest(taken) AS t JOIN usage_limit l ON l.id = t.throttle WHERE s.limit_id = t.throttle;
    UPDATE usage_hold SET provider = p_provider, provider_key = p_provider_key, ceiling = held.ceiling + p_cost,
        charges = charged, throttles = held.throttles || taken
    WHERE id = p_call;
    IF more IS NOT NULL THEN
        PERFORM usage_count(more);
    END IF;
    RETURN true;
END $$;
