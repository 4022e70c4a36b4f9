-- The windows of budgets: rows that are made on first use.

-- The moment at which clocks in a zone first show a time. When clocks are put back, they show it twice; when they are
-- put forward, they may skip it: then the moment of the change is returned.
CREATE FUNCTION usage_moment(p_local timestamp, p_zone text) RETURNS timestamptz LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    later timestamptz := p_local AT TIME ZONE p_zone;
    before timestamptz := later - interval '4 hours';
    -- The same time, read by the offset that was in force before.
    earlier timestamptz := later
        - ((before AT TIME ZONE p_zone - before AT TIME ZONE 'UTC') - (p_local - later AT TIME ZONE 'UTC'));
BEGIN
    RETURN CASE WHEN earlier < later AND earlier AT TIME ZONE p_zone = p_local THEN earlier ELSE later END;
END $$;

-- The window of a calendar or rolling period that a moment is in: p_month is the fiscal year's first. Minutes and
-- hours keep their length when clocks change; from days on, the calendar decides.
CREATE FUNCTION usage_window_at(
    p_period text, p_rolling boolean, p_zone text, p_month integer, p_at timestamptz,
    OUT start timestamptz, OUT until timestamptz) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    span interval := CASE p_period WHEN 'quarter' THEN interval '3 months' WHEN 'none' THEN NULL
        ELSE ('1 ' || p_period)::interval END;
    here timestamp := p_at AT TIME ZONE p_zone;
    since integer := extract(month FROM here)::integer + 12 - p_month;  -- months since a fiscal year began, or 12 more
    first timestamp;
BEGIN
    IF p_period = 'none' THEN
        start := 'epoch';
    ELSIF p_rolling THEN
        start := p_at;
        until := CASE WHEN p_period IN ('minute', 'hour') THEN p_at + span ELSE usage_moment(here + span, p_zone) END;
    ELSIF p_period IN ('minute', 'hour') THEN
        start := date_trunc(p_period, p_at, p_zone);
        until := start + span;
    ELSE
        first := CASE p_period
            WHEN 'quarter' THEN date_trunc('month', here) - make_interval(months => since % 3)
            WHEN 'year' THEN date_trunc('month', here) - make_interval(months => since % 12)
            ELSE date_trunc(p_period, here) END;
        start := usage_moment(first, p_zone);
        until := usage_moment(first + span, p_zone);
    END IF;
END $$;

-- The window of a budget that a moment is in, if it exists yet. An existing window keeps its end even if the customer's
-- calendar changes.
CREATE FUNCTION usage_current(p_budget bigint, p_at timestamptz) RETURNS SETOF usage_window LANGUAGE sql STABLE AS $$
    SELECT * FROM (
        SELECT * FROM usage_window w WHERE w.budget_id = p_budget AND w.start <= p_at ORDER BY w.start DESC LIMIT 1
    ) AS latest WHERE until IS NULL OR until > p_at
$$;

-- Make the current windows that these budgets lack. Returns the rolling ones that begin now. An insert that meets
-- another process's new window leaves it alone: ON CONFLICT DO UPDATE would lock the row outside of the common order.
CREATE FUNCTION usage_open_windows(p_budgets bigint[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    missing bigint[];
    unpredictable bigint[];
    begun bigint[];
    ids bigint[];
    starts timestamptz[];
    ends timestamptz[];
    now timestamptz := usage_now();
BEGIN
    SELECT array_agg(b.id), array_agg(b.id) FILTER (WHERE b.rolling) INTO missing, unpredictable
    FROM usage_budget b WHERE b.id = ANY (p_budgets) AND NOT EXISTS (SELECT FROM usage_current(b.id, now));
    IF missing IS NULL THEN
        RETURN NULL;
    END IF;
    IF unpredictable IS NOT NULL THEN
        -- Such a window begins with the first call, so processes take turns to make it.
        PERFORM FROM usage_budget b WHERE b.id = ANY (unpredictable) ORDER BY b.id FOR NO KEY UPDATE;
        now := usage_now();
    END IF;
    SELECT array_agg(b.id), array_agg(w.start), array_agg(w.until) INTO ids, starts, ends
    FROM usage_budget b
    LEFT JOIN keys_virtualkey v ON v.id = b.virtual_key_id
    LEFT JOIN keys_team t ON t.id = b.team_id
    JOIN keys_customer u ON u.id = coalesce(b.customer_id, t.customer_id, v.customer_id),
    LATERAL usage_window_at(b.period, b.rolling, u.time_zone, u.fiscal_year_month, now) AS w
    WHERE b.id = ANY (missing) AND NOT EXISTS (SELECT FROM usage_current(b.id, now));
    WITH made AS (
        INSERT INTO usage_window (budget_id, start, until, spent, held)
        SELECT w.budget, w.start, w.until, 0, 0 FROM unnest(ids, starts, ends) AS w (budget, start, until)
        ORDER BY w.budget
        ON CONFLICT DO NOTHING RETURNING budget_id
    )
    SELECT array_agg(budget_id) INTO begun FROM made WHERE budget_id = ANY (unpredictable);
    -- A window that ended early (its customer's calendar has changed) continues. That is rare, so its lock does no
    -- harm.
    UPDATE usage_window u SET until = w.until FROM unnest(ids, starts, ends) AS w (budget, start, until)
    WHERE u.budget_id = w.budget AND u.start = w.start AND u.until < w.until;
    RETURN begun;
END $$;

-- The end of this number of windows of a budget, counting the current one; null if they never end.
CREATE FUNCTION usage_windows_end(p_budget bigint, p_windows integer) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    ends timestamptz;
BEGIN
    FOR i IN 1 .. coalesce(p_windows, 0) LOOP
        SELECT w.until INTO ends
        FROM usage_budget b
        LEFT JOIN keys_virtualkey v ON v.id = b.virtual_key_id
        LEFT JOIN keys_team t ON t.id = b.team_id
        JOIN keys_customer u ON u.id = coalesce(b.customer_id, t.customer_id, v.customer_id),
        LATERAL (
            SELECT c.until FROM usage_current(b.id, usage_now()) c WHERE i = 1
            UNION ALL
            SELECT c.until FROM usage_window_at(
                b.period, b.rolling, u.time_zone, u.fiscal_year_month, coalesce(ends, usage_now())) c
            LIMIT 1
        ) AS w
        WHERE b.id = p_budget;
    END LOOP;
    RETURN ends;
END $$;
