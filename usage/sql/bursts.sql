-- What may come at once: all that a limit's bucket has when it is full. Where the limit doesn't say, that is a sixth of
-- the requests of a minute, but at least ten and never more than the rate, because clients begin with several calls in a
-- second. Of tokens it is a tenth: a call of more passes when the bucket is full. Limits of calls at once have no bucket.
CREATE FUNCTION usage_bucket(p_kind text, p_rate bigint, p_burst bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_kind WHEN 'parallel' THEN NULL
        WHEN 'rpm' THEN coalesce(p_burst, least(p_rate, greatest(10, p_rate / 6)))
        ELSE coalesce(p_burst, greatest(1, p_rate / 10)) END
$$;

-- What is left of a limit at a moment: of its bucket, or of the calls at once.
CREATE OR REPLACE FUNCTION usage_remaining(
    p_kind text, p_rate bigint, p_burst bigint, p_full_at timestamptz, p_running bigint, p_at timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(0, CASE p_kind
        WHEN 'parallel' THEN p_rate - coalesce(p_running, 0)
        ELSE floor(usage_bucket(p_kind, p_rate, p_burst)
            - greatest(0, coalesce(extract(epoch FROM p_full_at - p_at), 0)) * p_rate / 60) END)::bigint
$$;

-- usage_refusal of arbiter.sql, with what may come at once.
CREATE OR REPLACE FUNCTION usage_refusal(
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
            'burst', usage_bucket(l.kind, l.rate, l.burst),
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
