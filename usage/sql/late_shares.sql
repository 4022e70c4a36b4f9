-- Admit calls that were let through while nobody could be asked (ARBITER_AWAY=pass): each gets the hold that it would
-- have had, charged to the windows of the time when it was made, and is settled like any other. Nothing is refused any
-- more: budgets can be passed by it, and limits don't count it. Budgets by model are charged by the shares of the call's
-- models, as usage_decide does it. To admit again changes nothing.
--   p_process     the process that settles them; null: whoever asks ends them in the same transaction
--   p_admissions  usage.arbitration.Admission, with admitted_at
CREATE OR REPLACE FUNCTION usage_admit_late(p_process uuid, p_admissions jsonb) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    calls usage_hold[];
    unpredictable bigint[];
    changes usage_change[];
BEGIN
    -- What is held or in the ledger was admitted before.
    WITH held AS (
        INSERT INTO usage_hold (
            id, process, expires_at, admitted_at, credential, virtual_key_id, team_id, customer_id, labels,
            client_labels, endpoint, requested_model, stream, provider, provider_key, ceiling, input_tokens,
            input_cost, max_tokens, output_price, price_version, shares)
        SELECT a.id, p_process, CASE WHEN p_process IS NULL THEN timestamptz 'infinity' END, a.admitted_at,
            a.credential, v.id, v.team_id, v.customer_id, v.labels, a.client_labels, a.endpoint, a.requested_model,
            a.stream, a.provider, a.provider_key, a.ceiling, a.input_tokens, a.input_cost, a.max_tokens,
            a.output_price, a.price_version, a.shares
        FROM jsonb_to_recordset(p_admissions) AS a (
            id uuid, admitted_at timestamptz, credential bigint, client_labels jsonb, endpoint text,
            requested_model text, stream boolean, provider text, provider_key bigint, ceiling numeric(30, 12),
            input_tokens bigint, input_cost numeric, max_tokens bigint, output_price numeric, price_version text,
            shares jsonb)
        JOIN keys_credential c ON c.id = a.credential JOIN keys_virtualkey v ON v.id = c.virtual_key_id
        WHERE NOT EXISTS (SELECT FROM usage_ledgerentry e WHERE e.id = a.id)
        ORDER BY a.id
        ON CONFLICT DO NOTHING RETURNING *
    )
    SELECT array_agg(ROW(held.*)::usage_hold) FILTER (WHERE ceiling > 0 OR max_tokens > 0) INTO calls FROM held;
    IF calls IS NULL THEN
        RETURN;
    END IF;

    SELECT array_agg(DISTINCT b.id) INTO unpredictable
    FROM unnest(calls) AS h,
    usage_budgets_of(h.customer_id, h.team_id, h.virtual_key_id, h.provider_key, h.requested_model, h.shares) AS b
    WHERE b.rolling;
    PERFORM FROM usage_budget b WHERE b.id = ANY (unpredictable) ORDER BY b.id FOR NO KEY UPDATE;
    -- A rolling window begins with the first of them, and ends before one that has begun since.
    INSERT INTO usage_window (budget_id, start, until, spent, held)
    SELECT missing.id, w.start, least(w.until, (
        SELECT min(later.start) FROM usage_window later WHERE later.budget_id = missing.id AND later.start > w.start
    )), 0, 0
    FROM (
        SELECT b.id, b.period, b.rolling, u.time_zone, u.fiscal_year_month, min(h.admitted_at) AS admitted_at
        FROM unnest(calls) AS h JOIN keys_customer u ON u.id = h.customer_id,
        usage_budgets_of(h.customer_id, h.team_id, h.virtual_key_id, h.provider_key, h.requested_model, h.shares) AS b
        WHERE NOT EXISTS (SELECT FROM usage_current(b.id, h.admitted_at))
        GROUP BY b.id, b.period, b.rolling, u.time_zone, u.fiscal_year_month, CASE WHEN NOT b.rolling THEN (
            usage_window_at(b.period, false, u.time_zone, u.fiscal_year_month, h.admitted_at)).start END
    ) AS missing, LATERAL usage_window_at(
        missing.period, missing.rolling, missing.time_zone, missing.fiscal_year_month, missing.admitted_at) AS w
    ORDER BY missing.id, w.start
    ON CONFLICT DO NOTHING;

    WITH charged AS (
        SELECT h.id, array_agg(ROW(b.id, w.start, CASE
            WHEN h.shares IS NOT NULL AND b.model_patterns <> '{}'
                THEN usage_share(b.model_patterns, h.shares, b.unit = 'tokens')
            WHEN b.unit = 'tokens' THEN greatest(a.input_ceiling, h.input_tokens) + h.max_tokens
            ELSE h.ceiling END, b.unit = 'tokens')::usage_charge) AS charges
        FROM unnest(calls) AS h
        JOIN jsonb_to_recordset(p_admissions) AS a (id uuid, input_ceiling bigint) USING (id),
        usage_budgets_of(h.customer_id, h.team_id, h.virtual_key_id, h.provider_key, h.requested_model, h.shares) AS b,
        usage_current(b.id, h.admitted_at) AS w
        GROUP BY h.id
    ), taken AS (
        UPDATE usage_hold h SET charges = charged.charges FROM charged WHERE h.id = charged.id
    )
    SELECT array_agg(ROW(c.budget, c.start, 0, c.amount)::usage_change) INTO changes
    FROM charged, unnest(charged.charges) AS c;
    PERFORM usage_move(changes, NULL);
END $$;
