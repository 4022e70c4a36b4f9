-- Windows that others have just made are not locked out of the common order: an insert that meets one leaves it alone.
-- (ON CONFLICT DO UPDATE locks the row even where its condition is false.)

-- Make the current windows of these budgets where there are none yet. Returns the rolling ones that begin now.
CREATE OR REPLACE FUNCTION usage_open_windows(p_budgets bigint[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
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
        -- Where it begins depends on who comes first: one at a time.
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
    -- One that has ended early (its customer's calendar was another) goes on; seldom, so that its lock is bearable.
    UPDATE usage_window u SET until = w.until FROM unnest(ids, starts, ends) AS w (budget, start, until)
    WHERE u.budget_id = w.budget AND u.start = w.start AND u.until < w.until;
    RETURN begun;
END $$;
