-- The budgets and limits that apply to a call, and what they count.

-- The budgets that apply to a call. This function and the next are inlined into the statements that use them.
CREATE FUNCTION usage_budgets_of(
    p_customer bigint, p_team bigint, p_virtual_key bigint, p_provider_key bigint, p_model text, p_shares jsonb)
RETURNS SETOF usage_budget LANGUAGE sql STABLE AS $$
    SELECT * FROM usage_budget b
    WHERE b.owner = ANY (ARRAY[p_customer * 4, p_team * 4 + 1, p_virtual_key * 4 + 2]) AND b.active
        AND (b.provider_key_id IS NULL OR b.provider_key_id = p_provider_key)
        AND (b.model_patterns = '{}' OR usage_matches(b.model_patterns, p_model, p_shares))
$$;

CREATE FUNCTION usage_limits_of(
    p_customer bigint, p_team bigint, p_virtual_key bigint, p_provider_key bigint, p_model text, p_shares jsonb)
RETURNS SETOF usage_limit LANGUAGE sql STABLE AS $$
    SELECT * FROM usage_limit l
    WHERE l.owner = ANY (ARRAY[p_customer * 4, p_team * 4 + 1, p_virtual_key * 4 + 2]) AND l.active
        AND (l.provider_key_id IS NULL OR l.provider_key_id = p_provider_key)
        AND (l.model_patterns = '{}' OR usage_matches(l.model_patterns, p_model, p_shares))
$$;

-- The budgets that apply to a call that may cost something.
CREATE FUNCTION usage_budgets_of_call(p_call usage_weighed) RETURNS SETOF usage_budget LANGUAGE sql STABLE AS $$
    SELECT * FROM usage_budgets_of(
        p_call.customer_id, p_call.team_id, p_call.virtual_key_id, (p_call.asked).provider_key,
        (p_call.asked).requested_model, (p_call.asked).shares)
    WHERE (p_call.asked).ceiling > 0 OR (p_call.asked).max_tokens > 0
$$;

-- What a call may cost a budget at most, in the budget's unit.
CREATE FUNCTION usage_most(p_budget usage_budget, p_asked usage_asked) RETURNS numeric LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN p_asked.shares IS NOT NULL AND p_budget.model_patterns <> '{}'
            THEN usage_share(p_budget.model_patterns, p_asked.shares, p_budget.unit = 'tokens')
        WHEN p_budget.unit = 'tokens' THEN greatest(p_asked.input_ceiling, p_asked.input_tokens) + p_asked.max_tokens
        ELSE p_asked.ceiling END
$$;

-- What a budget allows at a moment: its amount, or what overrides it.
CREATE FUNCTION usage_allowed(p_budget bigint, p_amount numeric, p_at timestamptz)
RETURNS TABLE (amount numeric) LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        -- Its own overrides are found first: otherwise the planner may search those of all budgets, the latest first.
        SELECT o.amount FROM (
            SELECT * FROM usage_override o
            WHERE o.budget_id = p_budget AND o.starts_at <= p_at AND o.until > p_at OFFSET 0
        ) AS o ORDER BY o.id DESC LIMIT 1), p_amount)
$$;

-- The burst: the content of a limit's full bucket. By default, it is a sixth of the requests per minute, but at least
-- ten and never more than the rate, because clients begin with several calls in a second. Of tokens it is a tenth of
-- the rate: a call of more tokens passes when the bucket is full. Limits of calls at once have no
-- bucket.
CREATE FUNCTION usage_bucket(p_kind text, p_rate bigint, p_burst bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_kind WHEN 'parallel' THEN NULL
        WHEN 'rpm' THEN coalesce(p_burst, least(p_rate, greatest(10, p_rate / 6)))
        ELSE coalesce(p_burst, greatest(1, p_rate / 10)) END
$$;

-- What is left of a limit at a moment: of its bucket, or of the calls at once.
CREATE FUNCTION usage_remaining(
    p_kind text, p_rate bigint, p_burst bigint, p_full_at timestamptz, p_running bigint, p_at timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(0, CASE p_kind
        WHEN 'parallel' THEN p_rate - coalesce(p_running, 0)
        ELSE floor(usage_bucket(p_kind, p_rate, p_burst)
            - greatest(0, coalesce(extract(epoch FROM p_full_at - p_at), 0)) * p_rate / 60) END)::bigint
$$;

-- Whether a cool-down of a model (empty: of all) is one of a call's: of the models that it has shares of, or else of
-- the one that was asked for.
CREATE FUNCTION usage_is_for(p_model text, p_requested_model text, p_shares jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT p_model = '' OR CASE WHEN p_shares IS NULL THEN p_model = p_requested_model ELSE p_shares ? p_model END
$$;
