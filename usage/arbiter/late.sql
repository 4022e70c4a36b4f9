-- Admit calls that passed while the database was unavailable (ARBITER_AWAY=pass). Each gets the hold that it would have
-- had, charged to the windows of the time when it was made, and is settled like any other. They are never refused: they
-- can take budgets over their amounts, and limits don't count them. Admitting a call again changes nothing.
--   p_process     the process that settles them; null: the caller ends them in the same transaction
--   p_admissions  usage.arbitration.Admission, with admitted_at
CREATE FUNCTION usage_admit_late(p_process uuid, p_admissions jsonb) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    calls usage_weighed[];
    unpredictable bigint[];
    changes usage_change[];
BEGIN
    -- Whether a call of an archived month has a row isn't known here.
    IF EXISTS (
        SELECT FROM jsonb_populate_recordset(NULL::usage_asked, p_admissions) AS a JOIN usage_archivedmonth m
        ON m.state <> 'exported' AND a.id >= m.first_id AND a.id < m.end_id
    ) THEN
        RAISE EXCEPTION 'a call is of an archived month: restore it first (manage.py restore_month)'
            USING ERRCODE = 'restrict_violation';
    END IF;

    -- A call that has a hold or a row was admitted before.
    SELECT array_agg(ROW(a, v.id, v.team_id, v.customer_id, v.labels, 'admitted', NULL)::usage_weighed ORDER BY a.id)
    INTO calls
    FROM (SELECT DISTINCT ON (id) * FROM jsonb_populate_recordset(NULL::usage_asked, p_admissions)) AS a
    JOIN keys_credential c ON c.id = a.credential JOIN keys_virtualkey v ON v.id = c.virtual_key_id
    WHERE NOT EXISTS (SELECT FROM usage_ledgerentry e WHERE e.id = a.id)
        AND NOT EXISTS (SELECT FROM usage_hold h WHERE h.id = a.id);
    IF calls IS NULL THEN
        RETURN;
    END IF;

    -- A rolling window begins with the first of these calls, and ends before a window that has begun since.
    SELECT array_agg(DISTINCT b.id) INTO unpredictable
    FROM unnest(calls) AS c, usage_budgets_of_call(c) AS b WHERE b.rolling;
    PERFORM FROM usage_budget b WHERE b.id = ANY (unpredictable) ORDER BY b.id FOR NO KEY UPDATE;
    INSERT INTO usage_window (budget_id, start, until, spent, held)
    SELECT missing.id, w.start, least(w.until, (
        SELECT min(later.start) FROM usage_window later WHERE later.budget_id = missing.id AND later.start > w.start
    )), 0, 0
    FROM (
        SELECT b.id, b.period, b.rolling, u.time_zone, u.fiscal_year_month, min((c.asked).admitted_at) AS admitted_at
        FROM unnest(calls) AS c JOIN keys_customer u ON u.id = c.customer_id, usage_budgets_of_call(c) AS b
        WHERE NOT EXISTS (SELECT FROM usage_current(b.id, (c.asked).admitted_at))
        GROUP BY b.id, b.period, b.rolling, u.time_zone, u.fiscal_year_month, CASE WHEN NOT b.rolling THEN (
            usage_window_at(b.period, false, u.time_zone, u.fiscal_year_month, (c.asked).admitted_at)).start END
    ) AS missing, LATERAL usage_window_at(
        missing.period, missing.rolling, missing.time_zone, missing.fiscal_year_month, missing.admitted_at) AS w
    ORDER BY missing.id, w.start
    ON CONFLICT DO NOTHING;

    SELECT array_agg(ROW(c.asked, c.virtual_key_id, c.team_id, c.customer_id, c.labels, c.verdict, ARRAY(
        SELECT ROW(NULL, b.id, w.start, b.unit = 'tokens', NULL, NULL, usage_most(b, c.asked), NULL, NULL, NULL)::usage_need
        FROM usage_budgets_of_call(c) AS b, usage_current(b.id, (c.asked).admitted_at) AS w
    ))::usage_weighed ORDER BY (c.asked).id)
    INTO calls FROM unnest(calls) AS c;
    BEGIN
        PERFORM usage_make_holds(p_process, NULL, calls);
    EXCEPTION WHEN unique_violation THEN
        -- An earlier attempt was committed meanwhile.
        RAISE EXCEPTION 'a call has just been admitted' USING ERRCODE = 'serialization_failure';
    END;
    SELECT array_agg(ROW(n.budget, n.start, 0, n.need)::usage_change) INTO changes
    FROM unnest(calls) AS c, unnest(c.needs) AS n;
    PERFORM usage_move(changes, NULL);
END $$;
