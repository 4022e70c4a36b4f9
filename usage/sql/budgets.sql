-- Budgets and limits: their windows, which of them apply to a call, and the counters. See usage.budgets for the models
-- and arbiter.sql for who is admitted.
--
-- Order of locks, for everybody: holds, budgets (rolling ones that need a new window), windows by (budget, start),
-- states of limits by limit. Whoever keeps to it never waits in a circle.

-- What a call was charged with: held while it is a hold, spent when it is a ledger row. It names what it was charged
-- to, so that moving a key or deleting a budget changes nothing about it.
CREATE TYPE usage_charge AS (budget bigint, start timestamptz, amount numeric, tokens boolean);
CREATE TYPE usage_throttle AS (throttle bigint, amount numeric);
-- What a window's counters change by.
CREATE TYPE usage_change AS (budget bigint, start timestamptz, spent numeric, held numeric);

ALTER TABLE usage_hold ADD COLUMN charges usage_charge[], ADD COLUMN throttles usage_throttle[],
    ADD COLUMN shares jsonb;  -- usage.arbitration.Admission.shares
ALTER TABLE usage_ledgerentry ADD COLUMN charges usage_charge[];
ALTER TABLE usage_retained ADD COLUMN charges usage_charge[] NOT NULL;

-- Counters change all the time, in place: no index but the primary key.
ALTER TABLE usage_window SET (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE usage_limitstate SET (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

CREATE TRIGGER usage_topup_append_only BEFORE UPDATE OR DELETE ON usage_topup
    FOR EACH ROW EXECUTE FUNCTION usage_refuse_change();
CREATE TRIGGER usage_override_append_only BEFORE UPDATE OR DELETE ON usage_override
    FOR EACH ROW EXECUTE FUNCTION usage_refuse_change();

CREATE FUNCTION usage_add_top_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE usage_budget SET amount = amount + NEW.amount WHERE id = NEW.budget_id AND period = 'none';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'only a prepaid budget is topped up' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER usage_topup_amount AFTER INSERT ON usage_topup FOR EACH ROW EXECUTE FUNCTION usage_add_top_up();

CREATE FUNCTION usage_refuse_new_meaning() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'owner, unit and period of a budget stay as they are: delete it and make another one'
        USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER usage_budget_meaning BEFORE UPDATE ON usage_budget FOR EACH ROW
    WHEN ((OLD.customer_id, OLD.team_id, OLD.virtual_key_id, OLD.unit, OLD.period, OLD.rolling)
        IS DISTINCT FROM (NEW.customer_id, NEW.team_id, NEW.virtual_key_id, NEW.unit, NEW.period, NEW.rolling))
    EXECUTE FUNCTION usage_refuse_new_meaning();

-- The time of everything that is admitted and counted: one clock for all processes, which tests can replace.
CREATE FUNCTION usage_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

-- The moment at which a clock on the wall in a zone first shows a time. Where clocks are put back it shows it twice;
-- where they are put forward it may never show it, and the moment of the change stands for it.
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
-- hours are as long as any other when clocks change; from days on, the calendar decides.
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

-- The window of a budget that a moment is in, if there is one yet. Once made, a window stays as it is until it ends,
-- whatever happens to the customer's calendar.
CREATE FUNCTION usage_current(p_budget bigint, p_at timestamptz) RETURNS SETOF usage_window LANGUAGE sql STABLE AS $$
    SELECT * FROM (
        SELECT * FROM usage_window w WHERE w.budget_id = p_budget AND w.start <= p_at ORDER BY w.start DESC LIMIT 1
    ) AS latest WHERE until IS NULL OR until > p_at
$$;

-- Make the current windows of these budgets where there are none yet. Returns the rolling ones that begin now.
CREATE FUNCTION usage_open_windows(p_budgets bigint[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    missing bigint[];
    unpredictable bigint[];
    begun bigint[];
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
    WITH made AS (
        INSERT INTO usage_window (budget_id, start, until, spent, held)
        SELECT b.id, w.start, w.until, 0, 0
        FROM usage_budget b
        LEFT JOIN keys_virtualkey v ON v.id = b.virtual_key_id
        LEFT JOIN keys_team t ON t.id = b.team_id
        JOIN keys_customer u ON u.id = coalesce(b.customer_id, t.customer_id, v.customer_id),
        LATERAL usage_window_at(b.period, b.rolling, u.time_zone, u.fiscal_year_month, now) AS w
        WHERE b.id = ANY (missing) AND NOT EXISTS (SELECT FROM usage_current(b.id, now))
        ORDER BY b.id
        ON CONFLICT (budget_id, start) DO UPDATE SET until = excluded.until WHERE usage_window.until < excluded.until
        RETURNING budget_id
    )
    SELECT array_agg(budget_id) INTO begun FROM made WHERE budget_id = ANY (unpredictable);
    RETURN begun;
END $$;

-- When the last of so many windows of a budget ends, the current one being the first; null where they never do.
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

-- Whether one of the patterns stands for a model: the rule of keys.patterns.matches.
CREATE FUNCTION usage_matches(p_patterns text[], p_model text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM unnest(p_patterns) AS pattern
        WHERE p_model LIKE replace(replace(replace(pattern, '\', '\\'), '_', '\_'), '*', '%'));
END $$;

-- Likewise, for a call of several models if it has shares: one of them is enough.
CREATE FUNCTION usage_matches(p_patterns text[], p_model text, p_shares jsonb)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF p_shares IS NULL THEN
        RETURN usage_matches(p_patterns, p_model);
    END IF;
    RETURN EXISTS (SELECT FROM jsonb_object_keys(p_shares) AS model WHERE usage_matches(p_patterns, model));
END $$;

-- The part of a call of several models that these patterns stand for.
CREATE FUNCTION usage_share(p_patterns text[], p_shares jsonb, p_tokens boolean)
RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN (
        SELECT sum((share ->> CASE WHEN p_tokens THEN 'tokens' ELSE 'ceiling' END)::numeric(30, 12))
        FROM jsonb_each(p_shares) AS s (model, share) WHERE usage_matches(p_patterns, model));
END $$;

-- The budgets that apply to a call. This and the next one are a part of whatever statement they are used in.
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

-- What a budget allows at a moment: its amount, or what overrides it.
CREATE FUNCTION usage_allowed(p_budget bigint, p_amount numeric, p_at timestamptz)
RETURNS TABLE (amount numeric) LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        -- Its own overrides are found first, lest they are looked for among everybody's, the latest first.
        SELECT o.amount FROM (
            SELECT * FROM usage_override o
            WHERE o.budget_id = p_budget AND o.starts_at <= p_at AND o.until > p_at OFFSET 0
        ) AS o ORDER BY o.id DESC LIMIT 1), p_amount)
$$;

-- What a limit's bucket has when it is full, and what is left of a limit at a moment: of its bucket, or of the calls at
-- once. Nothing is known of one that wasn't used yet.
CREATE FUNCTION usage_bucket(p_rate bigint, p_burst bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(p_burst, greatest(1, p_rate / 10))
$$;
CREATE FUNCTION usage_remaining(
    p_kind text, p_rate bigint, p_burst bigint, p_full_at timestamptz, p_running bigint, p_at timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(0, CASE p_kind
        WHEN 'parallel' THEN p_rate - coalesce(p_running, 0)
        ELSE floor(usage_bucket(p_rate, p_burst)
            - greatest(0, coalesce(extract(epoch FROM p_full_at - p_at), 0)) * p_rate / 60) END)::bigint
$$;

-- What budgets of tokens count: all that a model reads, from caches too, and writes. Counts beyond reason, which broken
-- providers report, are cut to what counters can hold.
CREATE FUNCTION usage_tokens(
    p_input bigint, p_output bigint, p_cache_read bigint, p_cache_5m bigint, p_cache_1h bigint)
RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(-1e15, least(1e15, p_input::numeric + p_output + p_cache_read + p_cache_5m + p_cache_1h))
$$;

-- What a budget's calls like this one are likely to cost: the mean of the last ones and two standard deviations more;
-- null where there are too few of them.
CREATE FUNCTION usage_likely(p_virtual_key bigint, p_model text, p_tokens boolean) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT CASE WHEN count(*) >= 5
        THEN round(avg(amount) + 2 * stddev_pop(amount), CASE WHEN p_tokens THEN 0 ELSE 12 END) END
    FROM (
        SELECT CASE WHEN p_tokens THEN usage_tokens(input_tokens, output_tokens, cache_read_input_tokens,
            cache_creation_5m_input_tokens, cache_creation_1h_input_tokens) ELSE cost END AS amount
        FROM (
            SELECT * FROM usage_ledgerentry e
            WHERE e.virtual_key_id = p_virtual_key AND e.id >= usage_first_id(clock_timestamp() - interval '7 days')
            ORDER BY e.id DESC LIMIT 64
        ) AS lately
        WHERE requested_model = p_model AND endpoint = 'messages' AND status = 'completed' LIMIT 32
    ) AS alike);
END $$;

-- What was held for a call as what it has spent. Null where no budget applied.
CREATE FUNCTION usage_spent(p_charges usage_charge[], p_cost numeric, p_tokens numeric)
RETURNS usage_charge[] LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    FOR i IN 1 .. cardinality(p_charges) LOOP
        p_charges[i].amount := CASE WHEN p_charges[i].tokens THEN p_tokens ELSE p_cost END;
    END LOOP;
    RETURN p_charges;
END $$;

-- What one of the lines of a call of several models has spent, of what was held for the call: a budget of some models
-- is charged with theirs. A provider may name a model by its date; a line of a model that nobody asked for, or that
-- isn't named, is charged to all.
CREATE FUNCTION usage_part_spent(
    p_charges usage_charge[], p_shares jsonb, p_model text, p_cost numeric, p_tokens numeric)
RETURNS usage_charge[] LANGUAGE plpgsql STABLE AS $$
DECLARE
    asked text := (
        SELECT model FROM jsonb_object_keys(p_shares) AS model
        WHERE p_model = model OR starts_with(p_model, model || '-') ORDER BY length(model) DESC LIMIT 1);
BEGIN
    IF asked IS NULL THEN
        RETURN usage_spent(p_charges, p_cost, p_tokens);
    END IF;
    RETURN nullif(ARRAY(
        SELECT c FROM unnest(usage_spent(p_charges, p_cost, p_tokens)) AS c JOIN usage_budget b ON b.id = c.budget
        WHERE b.model_patterns = '{}' OR usage_matches(b.model_patterns, asked)
            OR usage_matches(b.model_patterns, p_model)), '{}');
END $$;

-- Change the counters of windows that are locked, and note the thresholds that spending has passed.
CREATE FUNCTION usage_count(p_changes usage_change[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    -- A function that is asked with the clock itself would not become a part of the statement.
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

-- How long a bucket takes to get so much, at most a day.
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

-- Lock what these changes and corrections are about, in the order of everybody.
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

-- Lock and change: for whoever changes counters and admits nobody.
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

-- Whoever adjusts a row moves the counters with it; the arbiter does so itself.
CREATE FUNCTION usage_count_adjustments() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changes usage_change[];
BEGIN
    SELECT array_agg(ROW(c.budget, c.start, c.amount, 0)::usage_change) INTO changes
    FROM added a JOIN usage_ledgerentry e ON e.id = a.entry_id,
    LATERAL unnest(usage_spent(
        e.charges, a.cost, usage_tokens(a.input_tokens, a.output_tokens, a.cache_read_input_tokens,
            a.cache_creation_5m_input_tokens, a.cache_creation_1h_input_tokens))) AS c
    WHERE a.reason <> 'late_settlement';
    PERFORM usage_move(changes, NULL);
    RETURN NULL;
END $$;
CREATE TRIGGER usage_adjustment_counts AFTER INSERT ON usage_adjustment REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION usage_count_adjustments();

-- Give back what was retained of calls that nobody saw end: those given, or older than an age. Returns of how many.
CREATE FUNCTION usage_give_back(p_calls uuid[], p_age interval) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    changes usage_change[];
    given integer;
    before timestamptz := clock_timestamp() - p_age;
BEGIN
    WITH due AS (
        SELECT r.id FROM usage_retained r
        WHERE r.id = ANY (p_calls) OR r.retained_at < before ORDER BY r.id FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM usage_retained r USING due WHERE r.id = due.id RETURNING r.id, r.charges
    )
    SELECT count(DISTINCT gone.id), array_agg(ROW(c.budget, c.start, 0, -c.amount)::usage_change)
        FILTER (WHERE c.budget IS NOT NULL)
    INTO given, changes FROM gone LEFT JOIN LATERAL unnest(gone.charges) AS c ON true;
    PERFORM usage_move(changes, NULL);
    RETURN given;
END $$;
