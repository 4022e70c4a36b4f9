-- Alerts of budgets that refuse a call, and calls that cost more than was held. A hard budget refuses what doesn't fit,
-- so it may never reach 100 %. The transaction that refuses writes the alert, before the caller has its answer: if the
-- process dies then, the alert isn't lost. Admissions don't get slower by this.

-- The start of the span in which a budget alerts once. It is the start of the current window (p_start). A prepaid
-- budget has one endless window, so each top-up begins a span. Between two windows of a rolling budget (p_start is
-- null), the span begins at the end of the first one. Null if a calendar's window has not been used yet.
CREATE FUNCTION usage_exhaustible_since(p_budget usage_budget, p_start timestamptz, p_moment timestamptz)
RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_budget.period = 'none' THEN
        RETURN greatest(p_start, (
            SELECT max(t.created_at) FROM usage_topup t WHERE t.budget_id = p_budget.id AND t.amount > 0));
    ELSIF p_start IS NULL AND p_budget.rolling THEN
        RETURN coalesce((
            SELECT w.until FROM usage_window w WHERE w.budget_id = p_budget.id AND w.until <= p_moment
            ORDER BY w.start DESC LIMIT 1), p_budget.created_at);
    END IF;
    RETURN p_start;
END $$;

-- When a budget first refused a call in that span; null if it refused none. These alerts have the threshold 0.
CREATE FUNCTION usage_exhausted_since(p_budget usage_budget, p_start timestamptz, p_moment timestamptz)
RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT a.at FROM usage_alert a WHERE a.budget_id = p_budget.id AND a.threshold = 0
        AND a.start = usage_exhaustible_since(p_budget, p_start, p_moment));
END $$;

-- Raise the alerts of budgets that refuse. p_exhausted says what a call needed of which window, and the room in it; of
-- several calls that one budget refuses, the first counts. The windows are locked, so no two processes meet here.
CREATE FUNCTION usage_tell_of_exhausted(p_exhausted usage_need[], p_moment timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_alert (budget_id, start, threshold, spent, held, needed, amount, at)
    SELECT DISTINCT ON (b.id)
        b.id, since.start, 0, w.spent, allowed.amount - w.spent - e.room, e.need, allowed.amount, p_moment
    FROM unnest(p_exhausted) WITH ORDINALITY AS e
    JOIN usage_budget b ON b.id = e.budget
    JOIN usage_window w ON w.budget_id = e.budget AND w.start = e.start,
    LATERAL usage_allowed(b.id, b.amount, p_moment) AS allowed,
    -- usage_group deletes a rolling window that it has made and that admits no call: such a window began no span.
    LATERAL (SELECT usage_exhaustible_since(b, CASE
        WHEN b.rolling AND w.spent = 0 AND w.held = 0 AND w.xmin = pg_current_xact_id()::xid THEN NULL
        ELSE w.start END, p_moment)) AS since (start)
    WHERE NOT EXISTS (
        SELECT FROM usage_alert a WHERE a.budget_id = b.id AND a.start = since.start AND a.threshold = 0)
    ORDER BY b.id, e.ordinality
    ON CONFLICT DO NOTHING;
END $$;

-- Note that a call cost more than was held for it, once for a call. A batch exceeds its hold in portions, which add up.
CREATE FUNCTION usage_overran(p_call uuid, p_virtual_key bigint, p_cost numeric, p_held numeric)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO usage_overrun (call, at, virtual_key_id, cost, held, told)
    VALUES (p_call, usage_now(), p_virtual_key, p_cost, p_held, false)
    ON CONFLICT (call) DO UPDATE SET cost = usage_overrun.cost + excluded.cost, held = usage_overrun.held + excluded.held
$$;
