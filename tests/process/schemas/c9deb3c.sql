-- The database of commit c9deb3c, for tests/test_arbiter_versions.py: what `manage.py migrate` made then, as pg_dump of
-- PostgreSQL 15 writes it (--inserts --no-owner --no-privileges), without settings, the months' partitions of the ledger,
-- permissions and content types.
SET check_function_bodies = false;
CREATE TYPE public.usage_asked AS (
	id uuid,
	credential bigint,
	revision bigint,
	catalogue_revision bigint,
	hold boolean,
	endpoint text,
	requested_model text,
	stream boolean,
	provider text,
	provider_key bigint,
	ceiling numeric(30,12),
	input_tokens bigint,
	input_cost numeric,
	input_ceiling bigint,
	max_tokens bigint,
	output_price numeric,
	price_version text,
	client_labels jsonb,
	expires_seconds bigint,
	shares jsonb,
	insists boolean
);
CREATE TYPE public.usage_change AS (
	budget bigint,
	start timestamp with time zone,
	spent numeric,
	held numeric
);
CREATE TYPE public.usage_charge AS (
	budget bigint,
	start timestamp with time zone,
	amount numeric,
	tokens boolean
);
CREATE TYPE public.usage_throttle AS (
	throttle bigint,
	amount numeric
);
CREATE TYPE public.usage_verdict AS (
	id uuid,
	verdict text,
	detail text
);
CREATE TYPE public.usage_closed AS (
	verdicts public.usage_verdict[],
	changes public.usage_change[],
	corrections public.usage_throttle[]
);
CREATE TYPE public.usage_counted AS (
	asked public.usage_asked,
	budgets bigint[],
	throttles bigint[]
);
CREATE TYPE public.usage_ended AS (
	held public.usage_charge[],
	spent public.usage_charge[],
	throttles public.usage_throttle[],
	input_tokens numeric,
	cached_tokens numeric,
	output_tokens numeric
);
CREATE TYPE public.usage_need AS (
	slot integer,
	budget bigint,
	start timestamp with time zone,
	tokens boolean,
	throttle bigint,
	binding boolean,
	need numeric,
	room numeric,
	full_room numeric,
	pace numeric
);
CREATE TYPE public.usage_weighed AS (
	asked public.usage_asked,
	virtual_key_id bigint,
	team_id bigint,
	customer_id bigint,
	labels jsonb,
	verdict text,
	needs public.usage_need[]
);
CREATE FUNCTION public.keys_ask_for_models() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    -- The gateway's row before a list's, as everybody: two that wait for each other would both lose.
    PERFORM 1 FROM keys_gateway FOR UPDATE;
    IF (OLD.provider, OLD.base_url) IS DISTINCT FROM (NEW.provider, NEW.base_url) THEN
        DELETE FROM keys_modellist WHERE provider_key_id = NEW.id;
    ELSE
        UPDATE keys_modellist SET asked_at = NULL WHERE provider_key_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION public.keys_end_cooldowns() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    DELETE FROM keys_cooldown WHERE provider_key_id = NEW.id;
    RETURN NULL;
END $$;
CREATE FUNCTION public.keys_forget_account() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.organization_id := '';
    NEW.workspace_id := '';
    NEW.account_learned_at := NULL;
    RETURN NEW;
END $$;
CREATE FUNCTION public.keys_move_revision() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.revision := OLD.revision + 1;
    RETURN NEW;
END $$;
CREATE FUNCTION public.keys_touch_catalogue() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE keys_gateway SET catalogue_revision = catalogue_revision + 1;
    RETURN NULL;
END $$;
CREATE FUNCTION public.keys_touch_keys_of_team() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE keys_virtualkey SET revision = revision WHERE team_id = NEW.id;
    RETURN NULL;
END $$;
CREATE FUNCTION public.keys_touch_virtual_key() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE keys_virtualkey SET revision = revision WHERE id = OLD.virtual_key_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE keys_virtualkey SET revision = revision WHERE id = NEW.virtual_key_id;
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION public.usage_add_top_up() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE usage_budget SET amount = amount + NEW.amount WHERE id = NEW.budget_id AND period = 'none';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'only a prepaid budget is topped up' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION public.usage_admit_late(p_process uuid, p_admissions jsonb) RETURNS void
    LANGUAGE plpgsql
    AS $$
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
            input_cost, max_tokens, output_price, price_version)
        SELECT a.id, p_process, CASE WHEN p_process IS NULL THEN timestamptz 'infinity' END, a.admitted_at,
            a.credential, v.id, v.team_id, v.customer_id, v.labels, a.client_labels, a.endpoint, a.requested_model,
            a.stream, a.provider, a.provider_key, a.ceiling, a.input_tokens, a.input_cost, a.max_tokens,
            a.output_price, a.price_version
        FROM jsonb_to_recordset(p_admissions) AS a (
            id uuid, admitted_at timestamptz, credential bigint, client_labels jsonb, endpoint text,
            requested_model text, stream boolean, provider text, provider_key bigint, ceiling numeric(30, 12),
            input_tokens bigint, input_cost numeric, max_tokens bigint, output_price numeric, price_version text)
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
    usage_budgets_of(h.customer_id, h.team_id, h.virtual_key_id, h.provider_key, h.requested_model, NULL) AS b
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
        usage_budgets_of(h.customer_id, h.team_id, h.virtual_key_id, h.provider_key, h.requested_model, NULL) AS b
        WHERE NOT EXISTS (SELECT FROM usage_current(b.id, h.admitted_at))
        GROUP BY b.id, b.period, b.rolling, u.time_zone, u.fiscal_year_month, CASE WHEN NOT b.rolling THEN (
            usage_window_at(b.period, false, u.time_zone, u.fiscal_year_month, h.admitted_at)).start END
    ) AS missing, LATERAL usage_window_at(
        missing.period, missing.rolling, missing.time_zone, missing.fiscal_year_month, missing.admitted_at) AS w
    ORDER BY missing.id, w.start
    ON CONFLICT DO NOTHING;

    WITH charged AS (
        SELECT h.id, array_agg(ROW(b.id, w.start, CASE b.unit
            WHEN 'tokens' THEN greatest(a.input_ceiling, h.input_tokens) + h.max_tokens
            ELSE h.ceiling END, b.unit = 'tokens')::usage_charge) AS charges
        FROM unnest(calls) AS h
        JOIN jsonb_to_recordset(p_admissions) AS a (id uuid, input_ceiling bigint) USING (id),
        usage_budgets_of(h.customer_id, h.team_id, h.virtual_key_id, h.provider_key, h.requested_model, NULL) AS b,
        usage_current(b.id, h.admitted_at) AS w
        GROUP BY h.id
    ), taken AS (
        UPDATE usage_hold h SET charges = charged.charges FROM charged WHERE h.id = charged.id
    )
    SELECT array_agg(ROW(c.budget, c.start, 0, c.amount)::usage_change) INTO changes
    FROM charged, unnest(charged.charges) AS c;
    PERFORM usage_move(changes, NULL);
END $$;
CREATE FUNCTION public.usage_allowed(p_budget bigint, p_amount numeric, p_at timestamp with time zone) RETURNS TABLE(amount numeric)
    LANGUAGE sql STABLE
    AS $$
    SELECT coalesce((
        -- Its own overrides are found first, lest they are looked for among everybody's, the latest first.
        SELECT o.amount FROM (
            SELECT * FROM usage_override o
            WHERE o.budget_id = p_budget AND o.starts_at <= p_at AND o.until > p_at OFFSET 0
        ) AS o ORDER BY o.id DESC LIMIT 1), p_amount)
$$;
CREATE FUNCTION public.usage_bucket(p_rate bigint, p_burst bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT coalesce(p_burst, greatest(1, p_rate / 10))
$$;
CREATE TABLE public.usage_budget (
    id bigint NOT NULL,
    model_patterns character varying(200)[] NOT NULL,
    active boolean NOT NULL,
    deleted_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    owner bigint GENERATED ALWAYS AS (
CASE
    WHEN (customer_id IS NOT NULL) THEN (customer_id * 4)
    WHEN (team_id IS NOT NULL) THEN ((team_id * 4) + 1)
    ELSE ((virtual_key_id * 4) + 2)
END) STORED,
    unit character varying(10) NOT NULL,
    amount numeric(30,12) NOT NULL,
    period character varying(10) NOT NULL,
    rolling boolean NOT NULL,
    enforcement character varying(10) NOT NULL,
    thresholds smallint[] NOT NULL,
    customer_id bigint,
    provider_key_id bigint,
    team_id bigint,
    virtual_key_id bigint,
    CONSTRAINT usage_budget_deleted CHECK (((deleted_at IS NULL) OR (NOT active))),
    CONSTRAINT usage_budget_kind CHECK ((((unit)::text = ANY ((ARRAY['usd'::character varying, 'tokens'::character varying])::text[])) AND ((period)::text = ANY ((ARRAY['minute'::character varying, 'hour'::character varying, 'day'::character varying, 'week'::character varying, 'month'::character varying, 'quarter'::character varying, 'year'::character varying, 'none'::character varying])::text[])) AND ((enforcement)::text = ANY ((ARRAY['hard'::character varying, 'soft'::character varying, 'expected'::character varying])::text[])) AND (NOT (((period)::text = 'none'::text) AND rolling)))),
    CONSTRAINT usage_budget_one_owner CHECK ((((customer_id IS NOT NULL) AND (team_id IS NULL) AND (virtual_key_id IS NULL)) OR ((customer_id IS NULL) AND (team_id IS NOT NULL) AND (virtual_key_id IS NULL)) OR ((customer_id IS NULL) AND (team_id IS NULL) AND (virtual_key_id IS NOT NULL)))),
    CONSTRAINT usage_budget_provider_key CHECK (((provider_key_id IS NULL) OR (virtual_key_id IS NOT NULL)))
);
CREATE FUNCTION public.usage_budgets_of(p_customer bigint, p_team bigint, p_virtual_key bigint, p_provider_key bigint, p_model text, p_shares jsonb) RETURNS SETOF public.usage_budget
    LANGUAGE sql STABLE
    AS $$
    SELECT * FROM usage_budget b
    WHERE b.owner = ANY (ARRAY[p_customer * 4, p_team * 4 + 1, p_virtual_key * 4 + 2]) AND b.active
        AND (b.provider_key_id IS NULL OR b.provider_key_id = p_provider_key)
        AND (b.model_patterns = '{}' OR usage_matches(b.model_patterns, p_model, p_shares))
$$;
CREATE FUNCTION public.usage_caller(p_credential bigint, p_revision bigint, p_catalogue_revision bigint) RETURNS TABLE(virtual_key_id bigint, team_id bigint, customer_id bigint, labels jsonb, verdict text)
    LANGUAGE sql STABLE
    AS $$
    SELECT v.id, v.team_id, v.customer_id, v.labels, CASE
        WHEN v.revoked_at IS NOT NULL OR c.revoked_at <= clock_timestamp() THEN 'revoked'
        WHEN least(c.expires_at, v.expires_at) <= clock_timestamp() THEN 'expired'
        WHEN NOT v.active THEN 'key paused'
        WHEN t.paused THEN 'team paused'
        WHEN u.paused THEN 'customer paused'
        WHEN g.paused THEN 'gateway paused'
        WHEN v.revision <> p_revision OR coalesce(g.catalogue_revision, 0) <> p_catalogue_revision THEN 'stale'
        ELSE 'admitted' END
    FROM keys_credential c
    JOIN keys_virtualkey v ON v.id = c.virtual_key_id
    LEFT JOIN keys_team t ON t.id = v.team_id
    LEFT JOIN keys_customer u ON u.id = v.customer_id
    LEFT JOIN keys_gateway g ON true
    WHERE c.id = p_credential
$$;
CREATE FUNCTION public.usage_close(p_settlements jsonb) RETURNS public.usage_closed
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
DECLARE
    missing uuid[];
    ended usage_ended[];
    closed usage_closed;
    late usage_change[];
BEGIN
    WITH s AS (
        SELECT DISTINCT ON (id) * FROM jsonb_populate_recordset(NULL::usage_ledgerentry, p_settlements)
    ), gone AS (
        DELETE FROM usage_hold h USING s WHERE h.id = s.id RETURNING h.*
    ), written AS (
        INSERT INTO usage_ledgerentry (
            id, admitted_at, ended_at, credential, virtual_key_id, team_id, customer_id, labels, client_labels,
            endpoint, requested_model, model, stream, provider, provider_key_id, provider_request_id, status,
            http_status, error_type, stop_reason, input_tokens, output_tokens, thinking_tokens,
            cache_read_input_tokens, cache_creation_5m_input_tokens, cache_creation_1h_input_tokens,
            web_search_requests, iterations, service_tier, speed, inference_geo, cost, currency, price_version,
            price_flag, estimated, held, time_to_first_byte_ms, duration_ms, attempts, charges)
        SELECT
            gone.id, gone.admitted_at, gone.admitted_at + make_interval(secs => s.duration_ms / 1000.0),
            gone.credential, gone.virtual_key_id, gone.team_id, gone.customer_id, gone.labels, gone.client_labels,
            gone.endpoint, gone.requested_model, s.model, gone.stream, s.provider, s.provider_key_id,
            s.provider_request_id, s.status, s.http_status, s.error_type, s.stop_reason, s.input_tokens,
            s.output_tokens, s.thinking_tokens, s.cache_read_input_tokens, s.cache_creation_5m_input_tokens,
            s.cache_creation_1h_input_tokens, s.web_search_requests, s.iterations, s.service_tier, s.speed,
            s.inference_geo, s.cost, s.currency, s.price_version, s.price_flag, s.estimated, gone.ceiling,
            s.time_to_first_byte_ms, s.duration_ms, s.attempts,
            usage_spent(gone.charges, s.cost, usage_tokens(s.input_tokens, s.output_tokens, s.cache_read_input_tokens,
                s.cache_creation_5m_input_tokens, s.cache_creation_1h_input_tokens))
        FROM s JOIN gone USING (id)
        ON CONFLICT (id) DO NOTHING  -- taken for interrupted, then admitted again by a group that was in doubt
        RETURNING id, charges
    )
    SELECT
        array_agg(s.id) FILTER (WHERE written.id IS NULL),
        array_agg(ROW(
            gone.charges, written.charges, gone.throttles,
            s.input_tokens::numeric + s.cache_creation_5m_input_tokens + s.cache_creation_1h_input_tokens,
            s.cache_read_input_tokens, s.output_tokens)::usage_ended
        ) FILTER (WHERE gone.charges IS NOT NULL OR gone.throttles IS NOT NULL)
    INTO missing, ended
    FROM s LEFT JOIN gone USING (id) LEFT JOIN written USING (id);

    IF ended IS NOT NULL THEN
        SELECT
            (SELECT array_agg(ROW(c.budget, c.start, coalesce(c.spent, 0), -c.held)::usage_change)
            FROM unnest(ended) AS e, LATERAL unnest(e.held, e.spent)
                AS c (budget, start, held, tokens, same_budget, same_start, spent, same_tokens)),
            (SELECT array_agg(ROW(t.throttle, CASE l.kind
                WHEN 'parallel' THEN -1
                WHEN 'output_tpm' THEN e.output_tokens - t.amount
                WHEN 'input_tpm' THEN e.input_tokens + CASE WHEN l.count_cached THEN e.cached_tokens ELSE 0 END - t.amount
                ELSE 0 END)::usage_throttle)
            FROM unnest(ended) AS e, unnest(e.throttles) AS t JOIN usage_limit l ON l.id = t.throttle)
        INTO closed.changes, closed.corrections;
    END IF;
    IF missing IS NULL THEN
        RETURN closed;
    END IF;
    WITH s AS (
        SELECT DISTINCT ON (id) * FROM jsonb_populate_recordset(NULL::usage_ledgerentry, p_settlements)
        WHERE id = ANY (missing)
    ), adjusted AS (
        INSERT INTO usage_adjustment (
            entry_id, reason, author, detail, input_tokens, output_tokens, thinking_tokens, cache_read_input_tokens,
            cache_creation_5m_input_tokens, cache_creation_1h_input_tokens, web_search_requests, cost)
        SELECT
            s.id, 'late_settlement', '', to_jsonb(s), s.input_tokens - e.input_tokens,
            s.output_tokens - e.output_tokens, s.thinking_tokens - e.thinking_tokens,
            s.cache_read_input_tokens - e.cache_read_input_tokens,
            s.cache_creation_5m_input_tokens - e.cache_creation_5m_input_tokens,
            s.cache_creation_1h_input_tokens - e.cache_creation_1h_input_tokens,
            s.web_search_requests - e.web_search_requests, s.cost - e.cost
        FROM s JOIN usage_ledgerentry e USING (id) WHERE e.status = 'interrupted'
        ON CONFLICT DO NOTHING
        RETURNING *
    ), freed AS (
        DELETE FROM usage_retained r USING adjusted a WHERE r.id = a.entry_id RETURNING r.charges
    )
    SELECT
        (SELECT array_agg(ROW(s.id, CASE
            WHEN EXISTS (SELECT FROM adjusted a WHERE a.entry_id = s.id) THEN 'adjusted'
            WHEN EXISTS (SELECT FROM usage_ledgerentry e WHERE e.id = s.id) THEN 'repeated'
            ELSE 'unknown' END, NULL)::usage_verdict) FROM s),
        (SELECT array_agg(change) FROM (
            SELECT ROW(c.budget, c.start, c.amount, 0)::usage_change
            FROM adjusted a JOIN usage_ledgerentry e ON e.id = a.entry_id,
            unnest(usage_spent(e.charges, a.cost, usage_tokens(a.input_tokens, a.output_tokens,
                a.cache_read_input_tokens, a.cache_creation_5m_input_tokens, a.cache_creation_1h_input_tokens))) AS c
            UNION ALL
            SELECT ROW(c.budget, c.start, 0, -c.amount)::usage_change FROM freed f, unnest(f.charges) AS c
        ) AS changed (change))
    INTO closed.verdicts, late;
    closed.changes := closed.changes || late;
    RETURN closed;
END $$;
CREATE FUNCTION public.usage_correct(p_corrections public.usage_throttle[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE usage_limitstate s SET
        full_at = CASE WHEN l.kind = 'parallel' THEN s.full_at
            ELSE s.full_at + usage_pay_off(c.amount, l.rate) END,
        running = CASE WHEN l.kind = 'parallel' THEN s.running + c.amount::bigint ELSE s.running END
    FROM (SELECT throttle, sum(amount) AS amount FROM unnest(p_corrections) GROUP BY throttle) AS c
    JOIN usage_limit l ON l.id = c.throttle
    WHERE s.limit_id = c.throttle AND c.amount <> 0;
END $$;
CREATE FUNCTION public.usage_count(p_changes public.usage_change[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
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
CREATE FUNCTION public.usage_count_adjustments() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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
CREATE TABLE public.usage_window (
    start timestamp with time zone NOT NULL,
    until timestamp with time zone,
    spent numeric(30,12) NOT NULL,
    held numeric(30,12) NOT NULL,
    budget_id bigint NOT NULL
)
WITH (fillfactor='40', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');
CREATE FUNCTION public.usage_current(p_budget bigint, p_at timestamp with time zone) RETURNS SETOF public.usage_window
    LANGUAGE sql STABLE
    AS $$
    SELECT * FROM (
        SELECT * FROM usage_window w WHERE w.budget_id = p_budget AND w.start <= p_at ORDER BY w.start DESC LIMIT 1
    ) AS latest WHERE until IS NULL OR until > p_at
$$;
CREATE FUNCTION public.usage_decide(p_process uuid, p_counted public.usage_counted[], p_budgets bigint[], p_locked public.usage_change[], p_throttles bigint[]) RETURNS public.usage_verdict[]
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := usage_now();
    windows integer := coalesce(cardinality(p_locked), 0);
    calls usage_weighed[];
    admitted usage_weighed[];
    call usage_weighed;
    need usage_need;
    blocker usage_need;
    -- By slot: first the windows, then the buckets.
    rooms numeric[] := array_fill(NULL::numeric, ARRAY[windows + coalesce(cardinality(p_throttles), 0)]);
    taken numeric[] := rooms;
    stands text[];
    room numeric;
    room_there numeric;
    wait numeric;
    longest numeric;
    stood record;
    nearly_empty boolean;
    told usage_verdict;
    verdicts usage_verdict[];
BEGIN
    -- One snapshot: who calls, what applies to it, and what is left.
    SELECT array_agg(ROW(
        c.asked, k.virtual_key_id, k.team_id, k.customer_id, k.labels, k.verdict,
        CASE WHEN k.verdict = 'admitted' THEN ARRAY(
            SELECT ROW(
                CASE WHEN w.start = (p_locked[at.slot]).start THEN at.slot END, b.id, w.start, b.unit = 'tokens', NULL,
                b.enforcement <> 'soft', CASE b.enforcement WHEN 'expected' THEN least(most.need, usage_likely(
                    k.virtual_key_id, (c.asked).requested_model, b.unit = 'tokens')) ELSE most.need END,
                allowed.amount - w.spent - w.held, NULL, NULL)::usage_need
            FROM usage_budgets_of(
                k.customer_id, k.team_id, k.virtual_key_id, (c.asked).provider_key, (c.asked).requested_model,
                (c.asked).shares) AS b
            CROSS JOIN LATERAL (SELECT array_position(p_budgets, b.id)) AS at (slot)
            CROSS JOIN LATERAL (SELECT CASE
                WHEN (c.asked).shares IS NOT NULL AND b.model_patterns <> '{}'
                    THEN usage_share(b.model_patterns, (c.asked).shares, b.unit = 'tokens')
                WHEN b.unit = 'tokens'
                    THEN greatest((c.asked).input_ceiling, (c.asked).input_tokens) + (c.asked).max_tokens
                ELSE (c.asked).ceiling END) AS most (need)
            CROSS JOIN LATERAL usage_allowed(b.id, b.amount, moment) AS allowed
            LEFT JOIN LATERAL usage_current(b.id, moment) AS w ON true
            UNION ALL
            SELECT ROW(
                windows + array_position(p_throttles, l.id), NULL, NULL, NULL, l.id, true, CASE l.kind
                    WHEN 'input_tpm' THEN (c.asked).input_tokens
                    WHEN 'output_tpm' THEN (c.asked).max_tokens
                    ELSE 1 END, CASE l.kind WHEN 'parallel' THEN l.rate - s.running
                    ELSE b.burst - greatest(0, extract(epoch FROM s.full_at - moment)) * l.rate / 60 END,
                CASE WHEN l.kind LIKE '%tpm' THEN b.burst END,
                CASE WHEN l.kind <> 'parallel' THEN l.rate / 60.0 END)::usage_need
            FROM usage_limits_of(
                k.customer_id, k.team_id, k.virtual_key_id, (c.asked).provider_key, (c.asked).requested_model,
                (c.asked).shares) AS l
            CROSS JOIN LATERAL (SELECT usage_bucket(l.rate, l.burst)) AS b (burst)
            LEFT JOIN usage_limitstate s ON s.limit_id = l.id
            -- What lasts for days isn't one of the calls at once, nor are its tokens this minute's.
            WHERE (c.asked).expires_seconds IS NULL OR l.kind = 'rpm'
        ) ELSE '{}' END)::usage_weighed ORDER BY c.number)
    INTO calls
    FROM unnest(p_counted) WITH ORDINALITY AS c (asked, budgets, throttles, number)
    CROSS JOIN LATERAL usage_caller((c.asked).credential, (c.asked).revision, (c.asked).catalogue_revision) AS k;

    -- One after the other, in order of arrival.
    FOREACH call IN ARRAY calls LOOP
        blocker := NULL;
        longest := -1;
        FOREACH need IN ARRAY call.needs LOOP
            IF need.slot IS NULL THEN
                RAISE EXCEPTION 'what applies has changed meanwhile' USING ERRCODE = 'BF002';
            END IF;
            room := coalesce(rooms[need.slot], need.room);
            -- More than a bucket takes passes when it is full.
            IF need.binding AND need.need > room AND room < coalesce(need.full_room, need.need) THEN
                wait := CASE WHEN need.throttle IS NULL THEN 'infinity'
                    ELSE coalesce((least(need.need, need.full_room) - room) / need.pace, 1) END;
                IF wait > longest THEN
                    blocker := need;
                    longest := wait;
                    room_there := room;
                END IF;
            END IF;
        END LOOP;
        IF longest >= 0 THEN
            told := ROW((call.asked).id, CASE WHEN blocker.throttle IS NULL THEN 'budget' ELSE 'limit' END,
                usage_refusal(blocker.budget, blocker.throttle, blocker.need, room_there, longest, moment));
            verdicts := verdicts || told;
        ELSIF call.verdict <> 'admitted' THEN
            told := ROW((call.asked).id, call.verdict, NULL);
            verdicts := verdicts || told;
        ELSE
            FOREACH need IN ARRAY call.needs LOOP
                rooms[need.slot] := coalesce(rooms[need.slot], need.room) - need.need;
                taken[need.slot] := coalesce(taken[need.slot], 0) + need.need;
            END LOOP;
            admitted := admitted || call;
        END IF;
    END LOOP;
    IF admitted IS NULL THEN
        RETURN verdicts;
    END IF;

    INSERT INTO usage_hold (
        id, process, expires_at, admitted_at, credential, virtual_key_id, team_id, customer_id, labels, client_labels,
        endpoint, requested_model, stream, provider, provider_key, ceiling, input_tokens, input_cost, max_tokens,
        output_price, price_version, shares, charges, throttles)
    SELECT
        (asked).id, CASE WHEN (asked).expires_seconds IS NULL THEN p_process END,
        clock_timestamp() + make_interval(secs => (asked).expires_seconds), moment, (asked).credential, virtual_key_id,
        team_id, customer_id, labels, (asked).client_labels, (asked).endpoint, (asked).requested_model, (asked).stream,
        (asked).provider, (asked).provider_key, (asked).ceiling, (asked).input_tokens, (asked).input_cost,
        (asked).max_tokens, (asked).output_price, (asked).price_version, (asked).shares,
        nullif(ARRAY(SELECT ROW(budget, start, need, tokens)::usage_charge FROM unnest(needs) WHERE budget IS NOT NULL), '{}'),
        nullif(ARRAY(SELECT ROW(throttle, need)::usage_throttle FROM unnest(needs) WHERE throttle IS NOT NULL), '{}')
    FROM unnest(admitted);
    IF windows > 0 THEN
        UPDATE usage_window w SET held = w.held + t.amount
        FROM unnest(p_locked, taken) AS t (budget, start, no_spent, no_held, amount)
        WHERE w.budget_id = t.budget AND w.start = t.start AND t.amount > 0;
    END IF;
    FOR stood IN
        UPDATE usage_limitstate s SET
            full_at = CASE WHEN l.kind = 'parallel' THEN s.full_at
                ELSE greatest(s.full_at, moment) + usage_pay_off(t.amount, l.rate) END,
            running = CASE WHEN l.kind = 'parallel' THEN s.running + t.amount::bigint ELSE s.running END
        FROM unnest(p_throttles, taken[windows + 1:]) WITH ORDINALITY AS t (throttle, amount, number)
        JOIN usage_limit l ON l.id = t.throttle
        WHERE s.limit_id = t.throttle AND t.amount IS NOT NULL
        RETURNING t.number, json_build_object(
            'kind', l.kind, 'limit', l.rate,
            'remaining', usage_remaining(l.kind, l.rate, l.burst, s.full_at, s.running, moment),
            'reset', greatest(s.full_at, moment)) AS is_left
    LOOP
        stands[stood.number] := stood.is_left;
    END LOOP;
    FOREACH call IN ARRAY admitted LOOP
        told := ROW((call.asked).id, 'admitted', NULL);
        nearly_empty := false;
        FOREACH need IN ARRAY call.needs LOOP
            IF need.throttle IS NOT NULL THEN
                told.detail := concat_ws(', ', told.detail, stands[need.slot - windows]);
            ELSIF need.binding AND rooms[need.slot] < need.need THEN
                nearly_empty := true;
            END IF;
        END LOOP;
        IF nearly_empty THEN
            told.detail := concat_ws(', ', told.detail, '{"kind": "budget", "remaining": 0}');
        END IF;
        told.detail := '[' || told.detail || ']';
        verdicts := verdicts || told;
    END LOOP;
    RETURN verdicts;
END $$;
CREATE FUNCTION public.usage_expire() RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    expired integer;
    changes usage_change[];
BEGIN
    WITH due AS (
        SELECT id FROM usage_hold WHERE expires_at < clock_timestamp() ORDER BY id FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM usage_hold h USING due WHERE h.id = due.id RETURNING h.*
    ), written AS (
        INSERT INTO usage_ledgerentry
        SELECT r.* FROM gone, LATERAL jsonb_populate_record(
        NULL::usage_ledgerentry,
        to_jsonb(gone) || jsonb_build_object(
            'id', usage_part_id(gone.id, 'expired'), 'ended_at', gone.expires_at, 'model', gone.requested_model,
            'provider_key_id', gone.provider_key, 'provider_request_id', '', 'status', 'interrupted', 'error_type', '',
            'stop_reason', '', 'output_tokens', 0, 'thinking_tokens', 0, 'cache_read_input_tokens', 0,
            'cache_creation_5m_input_tokens', 0, 'cache_creation_1h_input_tokens', 0, 'web_search_requests', 0,
            'iterations', '[]'::jsonb, 'service_tier', '', 'speed', '', 'inference_geo', '', 'cost', gone.ceiling,
            'currency', 'USD', 'price_flag', '', 'estimated', true, 'held', gone.ceiling, 'duration_ms', 0,
            'attempts', '[]'::jsonb, 'xid', pg_current_xact_id()::text)
    ) AS r
    RETURNING charges
    )
    SELECT (SELECT count(*) FROM written), (
        SELECT array_agg(ROW(c.budget, c.start, c.amount, -c.amount)::usage_change) FROM gone, unnest(gone.charges) AS c)
    INTO expired, changes;
    PERFORM usage_move(changes, NULL);
    RETURN expired;
END $$;
CREATE FUNCTION public.usage_first_id(moment timestamp with time zone) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT
    AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
CREATE FUNCTION public.usage_give_back(p_calls uuid[], p_age interval) RETURNS integer
    LANGUAGE plpgsql
    AS $$
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
CREATE FUNCTION public.usage_group(p_process uuid, p_fence bigint, p_settlements jsonb, p_releases uuid[], p_admissions jsonb) RETURNS SETOF public.usage_verdict
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    closed usage_closed;
    told usage_verdict;
    verdicts usage_verdict[];
    given usage_change[];
    returned usage_throttle[];
    counted usage_counted[];
    budgets bigint[];
    throttles bigint[];
    missing bigint[];
    begun bigint[];
    locked usage_change[];
    moment timestamptz;
BEGIN
    UPDATE usage_writer SET groups = groups + 1 WHERE process = p_process AND fence = p_fence;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this writer has been replaced' USING ERRCODE = 'BF001';
    END IF;
    IF p_settlements IS NOT NULL THEN
        closed := usage_close(p_settlements);
        IF closed.verdicts IS NOT NULL THEN
            RETURN QUERY SELECT * FROM unnest(closed.verdicts);
        END IF;
    END IF;
    IF p_releases IS NOT NULL THEN
        WITH gone AS (
            DELETE FROM usage_hold h WHERE h.id = ANY (p_releases) RETURNING h.charges, h.throttles
        )
        SELECT
            (SELECT array_agg(ROW(c.budget, c.start, 0, -c.amount)::usage_change) FROM gone, unnest(charges) AS c),
            (SELECT array_agg(ROW(t.throttle, -t.amount)::usage_throttle) FROM gone, unnest(throttles) AS t)
        INTO given, returned;
        closed.changes := closed.changes || given;
        closed.corrections := closed.corrections || returned;
    END IF;
    IF p_admissions IS NOT NULL THEN
        -- Nothing is counted for most calls: these are admitted here.
        WITH judged AS MATERIALIZED (
            SELECT a.*, a AS asked, k.virtual_key_id, k.team_id, k.customer_id, k.labels, v.verdict,
                CASE WHEN v.verdict = 'admitted' AND a.hold AND (a.ceiling > 0 OR a.max_tokens > 0) THEN ARRAY(
                    SELECT b.id FROM usage_budgets_of(
                        k.customer_id, k.team_id, k.virtual_key_id, a.provider_key, a.requested_model, a.shares) b
                ) ELSE '{}' END AS budgets,
                CASE WHEN v.verdict = 'admitted' AND a.hold AND (a.ceiling > 0 OR a.max_tokens > 0) THEN ARRAY(
                    SELECT l.id FROM usage_limits_of(
                        k.customer_id, k.team_id, k.virtual_key_id, a.provider_key, a.requested_model, a.shares) l
                ) ELSE '{}' END AS throttles
            FROM jsonb_populate_recordset(NULL::usage_asked, p_admissions) AS a
            LEFT JOIN LATERAL usage_caller(a.credential, a.revision, a.catalogue_revision) AS k ON true
            CROSS JOIN LATERAL (SELECT CASE
                WHEN k.verdict = 'admitted' AND NOT a.insists AND EXISTS (
                    SELECT FROM keys_cooldown c WHERE c.provider_key_id = a.provider_key
                        AND (c.model IN ('', a.requested_model) OR a.shares ? c.model) AND c.until > clock_timestamp())
                THEN 'cooling' ELSE coalesce(k.verdict, 'unknown') END) AS v (verdict)
        ), held AS (
            INSERT INTO usage_hold (
                id, process, expires_at, admitted_at, credential, virtual_key_id, team_id, customer_id, labels,
                client_labels, endpoint, requested_model, stream, provider, provider_key, ceiling, input_tokens,
                input_cost, max_tokens, output_price, price_version)
            SELECT
                id, CASE WHEN expires_seconds IS NULL THEN p_process END,
                clock_timestamp() + make_interval(secs => expires_seconds), usage_now(), credential,
                virtual_key_id, team_id, customer_id, labels, client_labels, endpoint, requested_model, stream,
                provider, provider_key, ceiling, input_tokens, input_cost, max_tokens, output_price, price_version
            FROM judged WHERE verdict = 'admitted' AND hold AND budgets = '{}' AND throttles = '{}'
        )
        SELECT
            array_agg(ROW(id, verdict, NULL)::usage_verdict) FILTER (WHERE budgets = '{}' AND throttles = '{}'),
            array_agg(ROW(asked, budgets, throttles)::usage_counted) FILTER (WHERE budgets <> '{}' OR throttles <> '{}')
        INTO verdicts, counted
        FROM judged;
        IF verdicts IS NOT NULL THEN
            FOREACH told IN ARRAY verdicts LOOP
                RETURN NEXT told;
            END LOOP;
        END IF;
    END IF;

    IF counted IS NULL THEN
        IF closed.changes IS NOT NULL OR closed.corrections IS NOT NULL THEN
            PERFORM usage_move(closed.changes, closed.corrections);
        END IF;
        RETURN;
    END IF;
    FOR attempt IN 1 .. 2 LOOP
        moment := usage_now();
        SELECT array_agg(b ORDER BY b), array_agg(ROW(b, w.start, 0, 0)::usage_change ORDER BY b),
            array_agg(b) FILTER (WHERE w.start IS NULL)
        INTO budgets, locked, missing
        FROM (SELECT DISTINCT b FROM unnest(counted) AS c, unnest(c.budgets) AS b) AS applying
        LEFT JOIN LATERAL usage_current(b, moment) AS w ON true;
        EXIT WHEN missing IS NULL;
        begun := begun || usage_open_windows(missing);
    END LOOP;
    SELECT array_agg(t ORDER BY t), array_agg(ROW(t, 0)::usage_throttle ORDER BY t),
        array_agg(t ORDER BY t) FILTER (WHERE s.limit_id IS NULL)
    INTO throttles, returned, missing
    FROM (SELECT DISTINCT t FROM unnest(counted) AS c, unnest(c.throttles) AS t) AS applying
    LEFT JOIN usage_limitstate s ON s.limit_id = t;
    IF missing IS NOT NULL THEN
        INSERT INTO usage_limitstate (limit_id, full_at, running) SELECT t, moment, 0 FROM unnest(missing) AS t
        ON CONFLICT DO NOTHING;
    END IF;
    PERFORM usage_lock(closed.changes || locked, closed.corrections || returned);
    IF closed.changes IS NOT NULL THEN
        PERFORM usage_count(closed.changes);
    END IF;
    IF closed.corrections IS NOT NULL THEN
        PERFORM usage_correct(closed.corrections);
    END IF;
    FOREACH told IN ARRAY usage_decide(p_process, counted, budgets, locked, throttles) LOOP
        RETURN NEXT told;
    END LOOP;
    IF begun IS NOT NULL THEN
        -- A rolling window begins with a call that was admitted; nobody has seen this one yet.
        DELETE FROM usage_window w USING unnest(locked) AS l
        WHERE l.budget = ANY (begun) AND w.budget_id = l.budget AND w.start = l.start AND NOT EXISTS (
            SELECT FROM unnest(counted) AS c JOIN usage_hold h ON h.id = (c.asked).id, unnest(h.charges) AS held
            WHERE held.budget = w.budget_id);
    END IF;
END $$;
CREATE FUNCTION public.usage_hold_more(p_call uuid, p_provider text, p_provider_key bigint, p_model text, p_cost numeric, p_tokens numeric, p_most_tokens numeric) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    held usage_hold;
    budgets bigint[];
    throttled bigint[];
    moment timestamptz;
    more usage_change[];
    charged usage_charge[];
    taken usage_throttle[];
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

    IF EXISTS (
        SELECT FROM unnest(more) AS m JOIN usage_budget b ON b.id = m.budget
        JOIN usage_window w ON w.budget_id = m.budget AND w.start = m.start,
        usage_allowed(b.id, b.amount, moment) AS allowed
        WHERE b.active AND b.enforcement <> 'soft' AND m.held > 0 AND m.held > allowed.amount - w.spent - w.held
    ) OR EXISTS (
        SELECT FROM unnest(taken) AS t JOIN usage_limit l ON l.id = t.throttle
        JOIN usage_limitstate s ON s.limit_id = l.id,
        LATERAL (SELECT usage_bucket(l.rate, l.burst)) AS bucket (size)
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
CREATE FUNCTION public.usage_interrupt(p_calls uuid[], p_until timestamp with time zone[], p_rate integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
DECLARE
    ended integer;
    changes usage_change[];
    freed usage_throttle[];
BEGIN
    WITH gone AS (
        DELETE FROM usage_hold h USING unnest(p_calls, p_until) AS p (call, until)
        WHERE h.id = p.call RETURNING h.*, p.until
    ), lived AS (
        SELECT *, greatest(0, extract(epoch FROM until - admitted_at))::numeric AS seconds FROM gone
    ), written_tokens AS (
        SELECT *, least(max_tokens, ceil(p_rate * (1 + seconds)))::bigint AS output_tokens FROM lived
    ), estimate AS (
        SELECT *, round(least(ceiling, input_cost + output_tokens * output_price / 1000000), 12) AS cost FROM written_tokens
    ), written AS (
        INSERT INTO usage_ledgerentry (
            id, admitted_at, ended_at, credential, virtual_key_id, team_id, customer_id, labels, client_labels,
            endpoint, requested_model, model, stream, provider, provider_key_id, provider_request_id, status,
            http_status, error_type, stop_reason, input_tokens, output_tokens, thinking_tokens,
            cache_read_input_tokens, cache_creation_5m_input_tokens, cache_creation_1h_input_tokens,
            web_search_requests, iterations, service_tier, speed, inference_geo, cost, currency, price_version,
            price_flag, estimated, held, time_to_first_byte_ms, duration_ms, attempts, charges)
        SELECT
            id, admitted_at, greatest(admitted_at, until), credential, virtual_key_id, team_id, customer_id, labels,
            client_labels, endpoint, requested_model, requested_model, stream, provider, provider_key, '',
            'interrupted', NULL, '', '', input_tokens, output_tokens, 0, 0, 0, 0, 0, '[]', '', '', '', cost, 'USD',
            price_version, '', true, ceiling, NULL, least(seconds * 1000, 2147483647)::integer, '[]',
            usage_spent(charges, cost, input_tokens + output_tokens)
        FROM estimate
        RETURNING id, charges
    ), both_sides AS (
        SELECT g.id, c.budget, c.start, c.tokens, c.amount AS held, s.amount AS spent
        FROM gone g JOIN written w USING (id), unnest(g.charges) AS c
        JOIN unnest(w.charges) AS s ON s.budget = c.budget AND s.start = c.start
    ), retained AS (
        INSERT INTO usage_retained (id, retained_at, charges)
        SELECT id, clock_timestamp(), array_agg(ROW(budget, start, held - spent, tokens)::usage_charge)
        FROM both_sides WHERE held > spent GROUP BY id
    )
    SELECT
        (SELECT count(*) FROM written),
        (SELECT array_agg(ROW(budget, start, spent, -least(held, spent))::usage_change) FROM both_sides),
        (SELECT array_agg(ROW(t.throttle, CASE l.kind WHEN 'parallel' THEN -1 ELSE 0 END)::usage_throttle)
        FROM gone, unnest(gone.throttles) AS t JOIN usage_limit l ON l.id = t.throttle)
    INTO ended, changes, freed;
    PERFORM usage_move(changes, freed);
    RETURN ended;
END $$;
CREATE FUNCTION public.usage_likely(p_virtual_key bigint, p_model text, p_tokens boolean) RETURNS numeric
    LANGUAGE plpgsql STABLE
    AS $$
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
CREATE TABLE public.usage_limit (
    id bigint NOT NULL,
    model_patterns character varying(200)[] NOT NULL,
    active boolean NOT NULL,
    deleted_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    owner bigint GENERATED ALWAYS AS (
CASE
    WHEN (customer_id IS NOT NULL) THEN (customer_id * 4)
    WHEN (team_id IS NOT NULL) THEN ((team_id * 4) + 1)
    ELSE ((virtual_key_id * 4) + 2)
END) STORED,
    kind character varying(10) NOT NULL,
    rate bigint NOT NULL,
    burst bigint,
    count_cached boolean NOT NULL,
    customer_id bigint,
    provider_key_id bigint,
    team_id bigint,
    virtual_key_id bigint,
    CONSTRAINT usage_limit_burst_check CHECK ((burst >= 0)),
    CONSTRAINT usage_limit_deleted CHECK (((deleted_at IS NULL) OR (NOT active))),
    CONSTRAINT usage_limit_one_owner CHECK ((((customer_id IS NOT NULL) AND (team_id IS NULL) AND (virtual_key_id IS NULL)) OR ((customer_id IS NULL) AND (team_id IS NOT NULL) AND (virtual_key_id IS NULL)) OR ((customer_id IS NULL) AND (team_id IS NULL) AND (virtual_key_id IS NOT NULL)))),
    CONSTRAINT usage_limit_provider_key CHECK (((provider_key_id IS NULL) OR (virtual_key_id IS NOT NULL))),
    CONSTRAINT usage_limit_rate CHECK ((rate > 0)),
    CONSTRAINT usage_limit_rate_check CHECK ((rate >= 0))
);
CREATE FUNCTION public.usage_limits_of(p_customer bigint, p_team bigint, p_virtual_key bigint, p_provider_key bigint, p_model text, p_shares jsonb) RETURNS SETOF public.usage_limit
    LANGUAGE sql STABLE
    AS $$
    SELECT * FROM usage_limit l
    WHERE l.owner = ANY (ARRAY[p_customer * 4, p_team * 4 + 1, p_virtual_key * 4 + 2]) AND l.active
        AND (l.provider_key_id IS NULL OR l.provider_key_id = p_provider_key)
        AND (l.model_patterns = '{}' OR usage_matches(l.model_patterns, p_model, p_shares))
$$;
CREATE FUNCTION public.usage_lock(p_changes public.usage_change[], p_corrections public.usage_throttle[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
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
CREATE FUNCTION public.usage_make_partitions(ahead integer) RETURNS integer
    LANGUAGE plpgsql
    SET "TimeZone" TO 'UTC'
    AS $$
DECLARE
    month timestamptz := date_trunc('month', clock_timestamp()) - interval '1 month';
    name text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('usage_make_partitions'));
    FOR i IN 0 .. ahead + 1 LOOP
        name := 'usage_ledgerentry_' || to_char(month, 'YYYYMM');
        IF to_regclass(name) IS NULL AND NOT EXISTS (
            SELECT FROM usage_ledgerentry_other o
            WHERE o.id >= usage_first_id(month) AND o.id < usage_first_id(month + interval '1 month')
        ) THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF usage_ledgerentry FOR VALUES FROM (%L) TO (%L)',
                name, usage_first_id(month), usage_first_id(month + interval '1 month'));
            made := made + 1;
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN made;
END $$;
CREATE FUNCTION public.usage_matches(p_patterns text[], p_model text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM unnest(p_patterns) AS pattern
        WHERE p_model LIKE replace(replace(replace(pattern, '\', '\\'), '_', '\_'), '*', '%'));
END $$;
CREATE FUNCTION public.usage_matches(p_patterns text[], p_model text, p_shares jsonb) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    IF p_shares IS NULL THEN
        RETURN usage_matches(p_patterns, p_model);
    END IF;
    RETURN EXISTS (SELECT FROM jsonb_object_keys(p_shares) AS model WHERE usage_matches(p_patterns, model));
END $$;
CREATE FUNCTION public.usage_moment(p_local timestamp without time zone, p_zone text) RETURNS timestamp with time zone
    LANGUAGE plpgsql IMMUTABLE STRICT
    AS $$
DECLARE
    later timestamptz := p_local AT TIME ZONE p_zone;
    before timestamptz := later - interval '4 hours';
    -- The same time, read by the offset that was in force before.
    earlier timestamptz := later
        - ((before AT TIME ZONE p_zone - before AT TIME ZONE 'UTC') - (p_local - later AT TIME ZONE 'UTC'));
BEGIN
    RETURN CASE WHEN earlier < later AND earlier AT TIME ZONE p_zone = p_local THEN earlier ELSE later END;
END $$;
CREATE FUNCTION public.usage_move(p_changes public.usage_change[], p_corrections public.usage_throttle[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM usage_lock(p_changes, p_corrections);
    IF p_changes IS NOT NULL THEN
        PERFORM usage_count(p_changes);
    END IF;
    IF p_corrections IS NOT NULL THEN
        PERFORM usage_correct(p_corrections);
    END IF;
END $$;
CREATE FUNCTION public.usage_note_late_overrun() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM usage_overran(e.id, e.virtual_key_id, e.cost + NEW.cost, e.held)
    FROM usage_ledgerentry e WHERE e.id = NEW.entry_id AND e.cost + NEW.cost > e.held;
    RETURN NULL;
END $$;
CREATE FUNCTION public.usage_note_overrun() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM usage_overran(NEW.id, NEW.virtual_key_id, NEW.cost, NEW.held);
    RETURN NULL;
END $$;
CREATE FUNCTION public.usage_now() RETURNS timestamp with time zone
    LANGUAGE sql
    AS $$SELECT clock_timestamp()$$;
CREATE FUNCTION public.usage_open(p_settlement jsonb) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO usage_ledgerentry
    SELECT r.* FROM usage_hold h, LATERAL jsonb_populate_record(
        NULL::usage_ledgerentry,
        to_jsonb(h) || p_settlement || jsonb_build_object(
            'held', h.ceiling, 'charges', NULL, 'xid', pg_current_xact_id()::text,
            'ended_at', h.admitted_at + make_interval(secs => (p_settlement ->> 'duration_ms')::bigint / 1000.0))
    ) AS r
    WHERE h.id = (p_settlement ->> 'id')::uuid
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$;
CREATE FUNCTION public.usage_open_windows(p_budgets bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql
    AS $$
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
CREATE FUNCTION public.usage_overran(p_call uuid, p_virtual_key bigint, p_cost numeric, p_held numeric) RETURNS void
    LANGUAGE sql
    AS $$
    INSERT INTO usage_overrun (call, at, virtual_key_id, cost, held, told)
    VALUES (p_call, usage_now(), p_virtual_key, p_cost, p_held, false)
    ON CONFLICT (call) DO UPDATE SET cost = usage_overrun.cost + excluded.cost, held = usage_overrun.held + excluded.held
$$;
CREATE FUNCTION public.usage_part_id(p_call uuid, p_name text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT
    AS $$
    SELECT (left(p_call::text, 14) || '7' || substr(h, 1, 3) || '-8' || substr(h, 4, 3) || '-' || substr(h, 7, 12))::uuid
    FROM encode(sha256(convert_to(p_call::text || p_name, 'UTF8')), 'hex') AS h
$$;
CREATE FUNCTION public.usage_part_spent(p_charges public.usage_charge[], p_shares jsonb, p_model text, p_cost numeric, p_tokens numeric) RETURNS public.usage_charge[]
    LANGUAGE plpgsql STABLE
    AS $$
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
CREATE FUNCTION public.usage_pay_off(p_amount numeric, p_rate numeric) RETURNS interval
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT make_interval(secs => greatest(-86400, least(86400, p_amount * 60 / p_rate))::double precision)
$$;
CREATE FUNCTION public.usage_reap(p_lease interval, p_rate integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
DECLARE
    dead uuid[];
    reaped integer;
BEGIN
    IF pg_postmaster_start_time() > clock_timestamp() - p_lease THEN
        RETURN 0;
    END IF;
    SELECT array_agg(id) INTO dead FROM (
        SELECT id FROM usage_process WHERE heartbeat_at < clock_timestamp() - p_lease FOR UPDATE SKIP LOCKED
    ) AS found;
    IF dead IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM usage_writer WHERE process = ANY (dead);  -- waits for groups that are being written
    SELECT usage_interrupt(array_agg(h.id), array_agg(p.heartbeat_at), p_rate) INTO reaped
    FROM usage_hold h JOIN usage_process p ON p.id = h.process WHERE h.process = ANY (dead);
    DELETE FROM usage_process WHERE id = ANY (dead);
    RETURN reaped;
END $$;
CREATE FUNCTION public.usage_refusal(p_budget bigint, p_throttle bigint, p_needed numeric, p_left numeric, p_wait numeric, p_moment timestamp with time zone) RETURNS text
    LANGUAGE plpgsql
    AS $$
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
CREATE FUNCTION public.usage_refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: what turned out differently is an adjustment';
END $$;
CREATE FUNCTION public.usage_refuse_new_meaning() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'owner, unit and period of a budget stay as they are: delete it and make another one'
        USING ERRCODE = 'check_violation';
END $$;
CREATE FUNCTION public.usage_remaining(p_kind text, p_rate bigint, p_burst bigint, p_full_at timestamp with time zone, p_running bigint, p_at timestamp with time zone) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT greatest(0, CASE p_kind
        WHEN 'parallel' THEN p_rate - coalesce(p_running, 0)
        ELSE floor(usage_bucket(p_rate, p_burst)
            - greatest(0, coalesce(extract(epoch FROM p_full_at - p_at), 0)) * p_rate / 60) END)::bigint
$$;
CREATE FUNCTION public.usage_settle(p_settlements jsonb) RETURNS SETOF public.usage_verdict
    LANGUAGE plpgsql
    AS $$
DECLARE
    closed usage_closed := usage_close(p_settlements);
BEGIN
    PERFORM usage_move(closed.changes, closed.corrections);
    RETURN QUERY SELECT * FROM unnest(closed.verdicts);
END $$;
CREATE FUNCTION public.usage_settle_parts(p_call uuid, p_lines jsonb, p_last boolean) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    held usage_hold;
    made usage_ledgerentry;
    new_lines integer;
    new_cost numeric;
    charges_left usage_charge[];
    changes usage_change[];
BEGIN
    SELECT * INTO held FROM usage_hold WHERE id = p_call FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;  -- all is settled, or has expired
    END IF;
    SELECT * INTO made FROM usage_ledgerentry WHERE id = p_call;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the call that made this batch has no row yet';
    END IF;
    WITH written AS (
        INSERT INTO usage_ledgerentry
        SELECT r.* FROM jsonb_array_elements(p_lines) AS line, LATERAL jsonb_populate_record(
            made,
            line || jsonb_build_object(
                'id', usage_part_id(p_call, line ->> 'part'), 'held', 0, 'xid', pg_current_xact_id()::text,
                'charges', usage_part_spent(held.charges, held.shares, line ->> 'model',
                    (line ->> 'cost')::numeric(30, 12), usage_tokens(
                        (line ->> 'input_tokens')::bigint, (line ->> 'output_tokens')::bigint,
                        (line ->> 'cache_read_input_tokens')::bigint,
                        (line ->> 'cache_creation_5m_input_tokens')::bigint,
                        (line ->> 'cache_creation_1h_input_tokens')::bigint)),
                'client_labels', made.client_labels || coalesce(line -> 'client_labels', '{}'))
        ) AS r
        ON CONFLICT DO NOTHING
        RETURNING *
    )
    SELECT count(*), coalesce(sum(cost), 0),
        (SELECT array_agg(ROW(c.budget, c.start, c.amount, 0)::usage_change) FROM written w, unnest(w.charges) AS c)
    INTO new_lines, new_cost, changes FROM written;
    -- What is spent is no longer held; what is over was never held.
    SELECT array_agg(ROW(c.budget, c.start, CASE WHEN p_last THEN 0 ELSE greatest(0, c.amount - s.spent) END,
            c.tokens)::usage_charge),
        array_agg(ROW(c.budget, c.start, s.spent,
            -CASE WHEN p_last THEN c.amount ELSE least(c.amount, s.spent) END)::usage_change)
    INTO charges_left, changes
    FROM unnest(held.charges) AS c, LATERAL (
        SELECT coalesce(sum(n.spent), 0) FROM unnest(changes) AS n WHERE n.budget = c.budget AND n.start = c.start
    ) AS s (spent);
    IF p_last THEN
        DELETE FROM usage_hold WHERE id = p_call;
    ELSIF new_lines > 0 THEN
        UPDATE usage_hold SET ceiling = greatest(0, ceiling - new_cost), charges = charges_left WHERE id = p_call;
    END IF;
    PERFORM usage_move(changes, NULL);
    IF new_cost > held.ceiling THEN
        PERFORM usage_overran(p_call, held.virtual_key_id, new_cost, held.ceiling);
    END IF;
    RETURN new_lines;
END $$;
CREATE FUNCTION public.usage_share(p_patterns text[], p_shares jsonb, p_tokens boolean) RETURNS numeric
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    RETURN (
        SELECT sum((share ->> CASE WHEN p_tokens THEN 'tokens' ELSE 'ceiling' END)::numeric(30, 12))
        FROM jsonb_each(p_shares) AS s (model, share) WHERE usage_matches(p_patterns, model));
END $$;
CREATE FUNCTION public.usage_spent(p_charges public.usage_charge[], p_cost numeric, p_tokens numeric) RETURNS public.usage_charge[]
    LANGUAGE plpgsql IMMUTABLE STRICT
    AS $$
BEGIN
    FOR i IN 1 .. cardinality(p_charges) LOOP
        p_charges[i].amount := CASE WHEN p_charges[i].tokens THEN p_tokens ELSE p_cost END;
    END LOOP;
    RETURN p_charges;
END $$;
CREATE FUNCTION public.usage_tell_of_refused() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO usage_alert (provider_key_id, start, threshold, spent, amount, http_status, at)
    VALUES (NEW.provider_key_id, date_trunc('hour', usage_now(), 'UTC'), 0, 0, 0, NEW.http_status, usage_now())
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE FUNCTION public.usage_tokens(p_input bigint, p_output bigint, p_cache_read bigint, p_cache_5m bigint, p_cache_1h bigint) RETURNS numeric
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT greatest(-1e15, least(1e15, p_input::numeric + p_output + p_cache_read + p_cache_5m + p_cache_1h))
$$;
CREATE FUNCTION public.usage_window_at(p_period text, p_rolling boolean, p_zone text, p_month integer, p_at timestamp with time zone, OUT start timestamp with time zone, OUT until timestamp with time zone) RETURNS record
    LANGUAGE plpgsql IMMUTABLE
    AS $$
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
CREATE FUNCTION public.usage_windows_end(p_budget bigint, p_windows integer) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    AS $$
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
CREATE TABLE public.auth_group (
    id integer NOT NULL,
    name character varying(150) NOT NULL
);
ALTER TABLE public.auth_group ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.auth_group_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.auth_group_permissions (
    id integer NOT NULL,
    group_id integer NOT NULL,
    permission_id integer NOT NULL
);
ALTER TABLE public.auth_group_permissions ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.auth_group_permissions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.auth_permission (
    id integer NOT NULL,
    name character varying(255) NOT NULL,
    content_type_id integer NOT NULL,
    codename character varying(100) NOT NULL
);
ALTER TABLE public.auth_permission ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.auth_permission_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.auth_user (
    id integer NOT NULL,
    password character varying(128) NOT NULL,
    last_login timestamp with time zone,
    is_superuser boolean NOT NULL,
    username character varying(150) NOT NULL,
    first_name character varying(150) NOT NULL,
    last_name character varying(150) NOT NULL,
    email character varying(254) NOT NULL,
    is_staff boolean NOT NULL,
    is_active boolean NOT NULL,
    date_joined timestamp with time zone NOT NULL
);
CREATE TABLE public.auth_user_groups (
    id integer NOT NULL,
    user_id integer NOT NULL,
    group_id integer NOT NULL
);
ALTER TABLE public.auth_user_groups ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.auth_user_groups_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
ALTER TABLE public.auth_user ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.auth_user_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.auth_user_user_permissions (
    id integer NOT NULL,
    user_id integer NOT NULL,
    permission_id integer NOT NULL
);
ALTER TABLE public.auth_user_user_permissions ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.auth_user_user_permissions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.django_admin_log (
    id integer NOT NULL,
    action_time timestamp with time zone NOT NULL,
    object_id text,
    object_repr character varying(200) NOT NULL,
    action_flag smallint NOT NULL,
    change_message text NOT NULL,
    content_type_id integer,
    user_id integer NOT NULL,
    CONSTRAINT django_admin_log_action_flag_check CHECK ((action_flag >= 0))
);
ALTER TABLE public.django_admin_log ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.django_admin_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.django_content_type (
    id integer NOT NULL,
    app_label character varying(100) NOT NULL,
    model character varying(100) NOT NULL
);
ALTER TABLE public.django_content_type ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.django_content_type_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.django_migrations (
    id integer NOT NULL,
    app character varying(255) NOT NULL,
    name character varying(255) NOT NULL,
    applied timestamp with time zone NOT NULL
);
ALTER TABLE public.django_migrations ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.django_migrations_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.django_session (
    session_key character varying(40) NOT NULL,
    session_data text NOT NULL,
    expire_date timestamp with time zone NOT NULL
);
CREATE TABLE public.keys_cooldown (
    id bigint NOT NULL,
    model character varying(200) NOT NULL,
    reason character varying(20) NOT NULL,
    http_status smallint,
    strikes integer NOT NULL,
    since timestamp with time zone NOT NULL,
    until timestamp with time zone NOT NULL,
    provider_key_id bigint NOT NULL,
    CONSTRAINT keys_cooldown_http_status_check CHECK ((http_status >= 0)),
    CONSTRAINT keys_cooldown_reason CHECK (((reason)::text = ANY ((ARRAY['rate_limited'::character varying, 'failing'::character varying, 'refused'::character varying])::text[]))),
    CONSTRAINT keys_cooldown_strikes_check CHECK ((strikes >= 0))
);
ALTER TABLE public.keys_cooldown ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.keys_cooldown_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.keys_credential (
    id bigint NOT NULL,
    kind character varying(20) NOT NULL,
    name character varying(200) NOT NULL,
    digest bytea NOT NULL,
    pepper character varying(16) NOT NULL,
    first character varying(20) NOT NULL,
    last character varying(8) NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    virtual_key_id bigint NOT NULL
);
ALTER TABLE public.keys_credential ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.keys_credential_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.keys_customer (
    id bigint NOT NULL,
    name character varying(200) NOT NULL,
    paused boolean NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    fiscal_year_month smallint DEFAULT 1 NOT NULL,
    language character varying(10) DEFAULT 'en'::character varying NOT NULL,
    time_zone character varying(60) DEFAULT 'UTC'::character varying NOT NULL,
    CONSTRAINT keys_customer_fiscal_year_month_check CHECK ((fiscal_year_month >= 0)),
    CONSTRAINT keys_customer_time_zone CHECK ((('1970-01-01 00:00:00+00'::timestamp with time zone AT TIME ZONE time_zone) IS NOT NULL))
);
ALTER TABLE public.keys_customer ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.keys_customer_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.keys_gateway (
    id smallint NOT NULL,
    paused boolean NOT NULL,
    catalogue_revision bigint NOT NULL
);
ALTER TABLE public.keys_gateway ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.keys_gateway_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.keys_modelalias (
    id bigint NOT NULL,
    name character varying(200) NOT NULL,
    target character varying(200) NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL
);
ALTER TABLE public.keys_modelalias ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.keys_modelalias_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.keys_modellist (
    provider_key_id bigint NOT NULL,
    listed jsonb NOT NULL,
    asked_at timestamp with time zone,
    listed_at timestamp with time zone,
    problem character varying(200) NOT NULL
);
CREATE TABLE public.keys_performance (
    id bigint NOT NULL,
    model character varying(200) NOT NULL,
    attempts integer NOT NULL,
    failures integer NOT NULL,
    first_byte_ms double precision,
    share double precision NOT NULL,
    at timestamp with time zone NOT NULL,
    provider_key_id bigint NOT NULL,
    CONSTRAINT keys_performance_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT keys_performance_failures_check CHECK ((failures >= 0))
);
ALTER TABLE public.keys_performance ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.keys_performance_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.keys_providerkey (
    id bigint NOT NULL,
    name character varying(200) NOT NULL,
    provider character varying(20) NOT NULL,
    base_url character varying(500) NOT NULL,
    secret_ciphertext bytea NOT NULL,
    secret_hint character varying(20) NOT NULL,
    model_patterns character varying(200)[] NOT NULL,
    active boolean NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    organization_id text NOT NULL,
    workspace_id text NOT NULL,
    account_learned_at timestamp with time zone,
    between_bytes_seconds double precision,
    connect_seconds double precision,
    first_byte_seconds double precision,
    retry_unanswered boolean DEFAULT false NOT NULL,
    total_seconds double precision,
    region character varying(50) DEFAULT ''::character varying NOT NULL,
    project character varying(100) DEFAULT ''::character varying NOT NULL
);
ALTER TABLE public.keys_providerkey ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.keys_providerkey_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.keys_team (
    id bigint NOT NULL,
    name character varying(200) NOT NULL,
    paused boolean NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    customer_id bigint NOT NULL,
    max_tokens integer,
    default_max_tokens integer,
    CONSTRAINT keys_team_default_max_tokens_check CHECK ((default_max_tokens >= 0)),
    CONSTRAINT keys_team_max_tokens_check CHECK ((max_tokens >= 0))
);
ALTER TABLE public.keys_team ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.keys_team_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.keys_virtualkey (
    id bigint NOT NULL,
    name character varying(200) NOT NULL,
    owner character varying(200) NOT NULL,
    active boolean NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    cut_streams_at timestamp with time zone,
    allowed_models character varying(200)[] NOT NULL,
    denied_models character varying(200)[] NOT NULL,
    labels jsonb NOT NULL,
    passthrough boolean NOT NULL,
    revision bigint NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    customer_id bigint NOT NULL,
    team_id bigint,
    max_tokens integer,
    default_max_tokens integer,
    fallback_models character varying(200)[] DEFAULT '{}'::character varying(200)[] NOT NULL,
    adaptive_weights boolean DEFAULT false NOT NULL,
    CONSTRAINT keys_virtualkey_default_max_tokens_check CHECK ((default_max_tokens >= 0)),
    CONSTRAINT keys_virtualkey_max_tokens_check CHECK ((max_tokens >= 0))
);
ALTER TABLE public.keys_virtualkey ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.keys_virtualkey_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.keys_virtualkeyroute (
    id bigint NOT NULL,
    weight integer NOT NULL,
    provider_key_id bigint NOT NULL,
    virtual_key_id bigint NOT NULL,
    CONSTRAINT keys_virtualkeyroute_weight_check CHECK ((weight >= 0))
);
ALTER TABLE public.keys_virtualkeyroute ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.keys_virtualkeyroute_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.messages_api_batch (
    organization_id text NOT NULL,
    workspace_id text NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    id uuid NOT NULL,
    process uuid,
    provider_batch_id text NOT NULL,
    state character varying(20) NOT NULL,
    requests integer NOT NULL,
    settled_requests integer NOT NULL,
    ceiling numeric(30,12) NOT NULL,
    custom_ids character varying(64) NOT NULL,
    hour_writes boolean NOT NULL,
    described text NOT NULL,
    asked_at timestamp with time zone,
    ended_at timestamp with time zone,
    deleted_at timestamp with time zone,
    provider_key_id bigint,
    team_id bigint,
    virtual_key_id bigint NOT NULL
);
CREATE TABLE public.messages_api_binding (
    id bigint NOT NULL,
    organization_id text NOT NULL,
    workspace_id text NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    kind character varying(20) NOT NULL,
    name text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    provider_key_id bigint,
    team_id bigint,
    virtual_key_id bigint NOT NULL
);
ALTER TABLE public.messages_api_binding ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.messages_api_binding_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.messages_api_file (
    organization_id text NOT NULL,
    workspace_id text NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    id text NOT NULL,
    described text NOT NULL,
    deleted_at timestamp with time zone,
    provider_key_id bigint,
    team_id bigint,
    virtual_key_id bigint NOT NULL
);
CREATE TABLE public.usage_adjustment (
    id bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    thinking_tokens bigint NOT NULL,
    cache_read_input_tokens bigint NOT NULL,
    cache_creation_5m_input_tokens bigint NOT NULL,
    cache_creation_1h_input_tokens bigint NOT NULL,
    web_search_requests bigint NOT NULL,
    cost numeric(30,12) NOT NULL,
    entry_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    reason character varying(30) NOT NULL,
    author character varying(200) NOT NULL,
    detail jsonb NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL
);
ALTER TABLE public.usage_adjustment ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.usage_adjustment_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.usage_alert (
    id bigint NOT NULL,
    start timestamp with time zone NOT NULL,
    threshold smallint NOT NULL,
    spent numeric(30,12) NOT NULL,
    amount numeric(30,12) NOT NULL,
    at timestamp with time zone NOT NULL,
    delivered_at timestamp with time zone,
    budget_id bigint,
    virtual_key_id bigint,
    provider_key_id bigint,
    http_status smallint,
    CONSTRAINT usage_alert_http_status_check CHECK ((http_status >= 0)),
    CONSTRAINT usage_alert_of_one CHECK ((((budget_id IS NOT NULL) OR (virtual_key_id IS NOT NULL) OR (provider_key_id IS NOT NULL)) AND (1 = mod(((
CASE
    WHEN (budget_id IS NOT NULL) THEN 1
    ELSE 0
END +
CASE
    WHEN (virtual_key_id IS NOT NULL) THEN 1
    ELSE 0
END) +
CASE
    WHEN (provider_key_id IS NOT NULL) THEN 1
    ELSE 0
END), 2)))),
    CONSTRAINT usage_alert_threshold_check CHECK ((threshold >= 0))
);
ALTER TABLE public.usage_alert ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.usage_alert_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.usage_alerttarget (
    id bigint NOT NULL,
    channel character varying(10) NOT NULL,
    address character varying(500) NOT NULL,
    secret_ciphertext bytea NOT NULL,
    active boolean NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    customer_id bigint,
    CONSTRAINT usage_alerttarget_channel CHECK (((channel)::text = ANY ((ARRAY['email'::character varying, 'webhook'::character varying])::text[])))
);
ALTER TABLE public.usage_alerttarget ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.usage_alerttarget_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
ALTER TABLE public.usage_budget ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.usage_budget_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.usage_delivery (
    id bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    attempts integer NOT NULL,
    next_at timestamp with time zone NOT NULL,
    delivered_at timestamp with time zone,
    given_up_at timestamp with time zone,
    problem character varying(200) NOT NULL,
    alert_id bigint NOT NULL,
    target_id bigint NOT NULL,
    CONSTRAINT usage_delivery_attempts_check CHECK ((attempts >= 0))
);
ALTER TABLE public.usage_delivery ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.usage_delivery_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.usage_hold (
    admitted_at timestamp with time zone NOT NULL,
    credential bigint NOT NULL,
    labels jsonb NOT NULL,
    client_labels jsonb NOT NULL,
    endpoint character varying(40) NOT NULL,
    requested_model text NOT NULL,
    stream boolean NOT NULL,
    id uuid NOT NULL,
    process uuid,
    provider character varying(20) NOT NULL,
    provider_key bigint,
    ceiling numeric(30,12) NOT NULL,
    input_tokens bigint NOT NULL,
    input_cost numeric(30,12) NOT NULL,
    max_tokens bigint NOT NULL,
    output_price numeric(30,12) NOT NULL,
    price_version character varying(100) NOT NULL,
    customer_id bigint NOT NULL,
    team_id bigint,
    virtual_key_id bigint NOT NULL,
    expires_at timestamp with time zone,
    charges public.usage_charge[],
    throttles public.usage_throttle[],
    shares jsonb
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');
CREATE TABLE public.usage_ledgerentry (
    id uuid NOT NULL,
    admitted_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    credential bigint NOT NULL,
    virtual_key_id bigint NOT NULL,
    team_id bigint,
    customer_id bigint NOT NULL,
    labels jsonb NOT NULL,
    client_labels jsonb NOT NULL,
    endpoint text NOT NULL,
    requested_model text NOT NULL,
    model text NOT NULL,
    stream boolean NOT NULL,
    provider text NOT NULL,
    provider_key_id bigint,
    provider_request_id text NOT NULL,
    status text NOT NULL,
    http_status smallint,
    error_type text NOT NULL,
    stop_reason text NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    thinking_tokens bigint NOT NULL,
    cache_read_input_tokens bigint NOT NULL,
    cache_creation_5m_input_tokens bigint NOT NULL,
    cache_creation_1h_input_tokens bigint NOT NULL,
    web_search_requests bigint NOT NULL,
    iterations jsonb NOT NULL,
    service_tier text NOT NULL,
    speed text NOT NULL,
    inference_geo text NOT NULL,
    cost numeric(30,12) NOT NULL,
    currency text NOT NULL,
    price_version text NOT NULL,
    price_flag text NOT NULL,
    estimated boolean NOT NULL,
    held numeric(30,12) NOT NULL,
    time_to_first_byte_ms integer,
    duration_ms integer NOT NULL,
    attempts jsonb NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    charges public.usage_charge[]
)
PARTITION BY RANGE (id);
CREATE TABLE public.usage_ledgerentry_other (
    id uuid NOT NULL,
    admitted_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    credential bigint NOT NULL,
    virtual_key_id bigint NOT NULL,
    team_id bigint,
    customer_id bigint NOT NULL,
    labels jsonb NOT NULL,
    client_labels jsonb NOT NULL,
    endpoint text NOT NULL,
    requested_model text NOT NULL,
    model text NOT NULL,
    stream boolean NOT NULL,
    provider text NOT NULL,
    provider_key_id bigint,
    provider_request_id text NOT NULL,
    status text NOT NULL,
    http_status smallint,
    error_type text NOT NULL,
    stop_reason text NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    thinking_tokens bigint NOT NULL,
    cache_read_input_tokens bigint NOT NULL,
    cache_creation_5m_input_tokens bigint NOT NULL,
    cache_creation_1h_input_tokens bigint NOT NULL,
    web_search_requests bigint NOT NULL,
    iterations jsonb NOT NULL,
    service_tier text NOT NULL,
    speed text NOT NULL,
    inference_geo text NOT NULL,
    cost numeric(30,12) NOT NULL,
    currency text NOT NULL,
    price_version text NOT NULL,
    price_flag text NOT NULL,
    estimated boolean NOT NULL,
    held numeric(30,12) NOT NULL,
    time_to_first_byte_ms integer,
    duration_ms integer NOT NULL,
    attempts jsonb NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    charges public.usage_charge[]
);
ALTER TABLE public.usage_limit ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.usage_limit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.usage_limitstate (
    limit_id bigint NOT NULL,
    full_at timestamp with time zone NOT NULL,
    running bigint NOT NULL
)
WITH (fillfactor='40', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');
CREATE TABLE public.usage_override (
    id bigint NOT NULL,
    reason character varying(200) NOT NULL,
    author character varying(200) NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    amount numeric(30,12) NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    until timestamp with time zone NOT NULL,
    windows integer,
    budget_id bigint NOT NULL,
    CONSTRAINT usage_override_span CHECK ((until > starts_at)),
    CONSTRAINT usage_override_windows_check CHECK ((windows >= 0))
);
ALTER TABLE public.usage_override ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.usage_override_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.usage_overrun (
    call uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    cost numeric(30,12) NOT NULL,
    held numeric(30,12) NOT NULL,
    told boolean NOT NULL,
    virtual_key_id bigint NOT NULL
);
CREATE TABLE public.usage_price (
    id bigint NOT NULL,
    provider character varying(20) NOT NULL,
    model character varying(200) NOT NULL,
    valid_from timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    input numeric(20,6) NOT NULL,
    output numeric(20,6) NOT NULL,
    cache_read numeric(20,6) NOT NULL,
    cache_write_5m numeric(20,6) NOT NULL,
    cache_write_1h numeric(20,6) NOT NULL,
    web_search numeric(20,6) NOT NULL,
    note character varying(200) NOT NULL
);
ALTER TABLE public.usage_price ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.usage_price_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.usage_process (
    id uuid NOT NULL,
    host character varying(200) NOT NULL,
    pid integer NOT NULL,
    started_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL
)
WITH (fillfactor='10', autovacuum_vacuum_threshold='200', autovacuum_vacuum_scale_factor='0');
CREATE TABLE public.usage_refusal (
    id uuid NOT NULL,
    refused_at timestamp with time zone NOT NULL,
    http_status smallint NOT NULL,
    error_type character varying(40) NOT NULL,
    reason character varying(40) NOT NULL,
    message text NOT NULL,
    endpoint character varying(40) NOT NULL,
    credential_hint character varying(40) NOT NULL,
    requested_model text NOT NULL,
    virtual_key_id bigint
);
CREATE TABLE public.usage_refusalcount (
    id bigint NOT NULL,
    minute timestamp with time zone NOT NULL,
    reason character varying(40) NOT NULL,
    count bigint NOT NULL,
    virtual_key_id bigint
);
ALTER TABLE public.usage_refusalcount ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.usage_refusalcount_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.usage_retained (
    id uuid NOT NULL,
    retained_at timestamp with time zone NOT NULL,
    charges public.usage_charge[] NOT NULL
);
CREATE TABLE public.usage_rollup (
    id bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    thinking_tokens bigint NOT NULL,
    cache_read_input_tokens bigint NOT NULL,
    cache_creation_5m_input_tokens bigint NOT NULL,
    cache_creation_1h_input_tokens bigint NOT NULL,
    web_search_requests bigint NOT NULL,
    cost numeric(30,12) NOT NULL,
    bucket timestamp with time zone NOT NULL,
    model text NOT NULL,
    status character varying(30) NOT NULL,
    calls bigint NOT NULL,
    estimated_calls bigint NOT NULL,
    customer_id bigint NOT NULL,
    provider_key_id bigint,
    team_id bigint,
    virtual_key_id bigint NOT NULL
);
ALTER TABLE public.usage_rollup ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.usage_rollup_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.usage_rollupstate (
    id smallint NOT NULL,
    xid text NOT NULL,
    rolled_up_at timestamp with time zone
);
ALTER TABLE public.usage_rollupstate ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.usage_rollupstate_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.usage_topup (
    id bigint NOT NULL,
    reason character varying(200) NOT NULL,
    author character varying(200) NOT NULL,
    created_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    amount numeric(30,12) NOT NULL,
    budget_id bigint NOT NULL,
    CONSTRAINT usage_topup_amount CHECK ((NOT (amount = (0)::numeric)))
);
ALTER TABLE public.usage_topup ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.usage_topup_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.usage_writer (
    process uuid NOT NULL,
    fence bigint NOT NULL,
    groups bigint NOT NULL
)
WITH (fillfactor='10', autovacuum_vacuum_threshold='200', autovacuum_vacuum_scale_factor='0');
ALTER TABLE ONLY public.usage_ledgerentry ATTACH PARTITION public.usage_ledgerentry_other DEFAULT;
INSERT INTO public.django_migrations VALUES (1, 'contenttypes', '0001_initial', '2026-11-29 13:06:06.190319+00');
INSERT INTO public.django_migrations VALUES (2, 'auth', '0001_initial', '2026-11-29 13:06:06.293203+00');
INSERT INTO public.django_migrations VALUES (3, 'admin', '0001_initial', '2026-11-29 13:06:06.346209+00');
INSERT INTO public.django_migrations VALUES (4, 'admin', '0002_logentry_remove_auto_add', '2026-11-29 13:06:06.358159+00');
INSERT INTO public.django_migrations VALUES (5, 'admin', '0003_logentry_add_action_flag_choices', '2026-11-29 13:06:06.372964+00');
INSERT INTO public.django_migrations VALUES (6, 'contenttypes', '0002_remove_content_type_name', '2026-11-29 13:06:06.409041+00');
INSERT INTO public.django_migrations VALUES (7, 'auth', '0002_alter_permission_name_max_length', '2026-11-29 13:06:06.426393+00');
INSERT INTO public.django_migrations VALUES (8, 'auth', '0003_alter_user_email_max_length', '2026-11-29 13:06:06.451629+00');
INSERT INTO public.django_migrations VALUES (9, 'auth', '0004_alter_user_username_opts', '2026-11-29 13:06:06.477936+00');
INSERT INTO public.django_migrations VALUES (10, 'auth', '0005_alter_user_last_login_null', '2026-11-29 13:06:06.511525+00');
INSERT INTO public.django_migrations VALUES (11, 'auth', '0006_require_contenttypes_0002', '2026-11-29 13:06:06.519403+00');
INSERT INTO public.django_migrations VALUES (12, 'auth', '0007_alter_validators_add_error_messages', '2026-11-29 13:06:06.557089+00');
INSERT INTO public.django_migrations VALUES (13, 'auth', '0008_alter_user_username_max_length', '2026-11-29 13:06:06.610214+00');
INSERT INTO public.django_migrations VALUES (14, 'auth', '0009_alter_user_last_name_max_length', '2026-11-29 13:06:06.659185+00');
INSERT INTO public.django_migrations VALUES (15, 'auth', '0010_alter_group_name_max_length', '2026-11-29 13:06:07.20702+00');
INSERT INTO public.django_migrations VALUES (16, 'auth', '0011_update_proxy_permissions', '2026-11-29 13:06:07.236982+00');
INSERT INTO public.django_migrations VALUES (17, 'auth', '0012_alter_user_first_name_max_length', '2026-11-29 13:06:07.280866+00');
INSERT INTO public.django_migrations VALUES (18, 'keys', '0001_initial', '2026-11-29 13:06:07.635371+00');
INSERT INTO public.django_migrations VALUES (19, 'keys', '0002_revisions', '2026-11-29 13:06:07.650897+00');
INSERT INTO public.django_migrations VALUES (20, 'keys', '0003_gateway_token', '2026-11-29 13:06:07.659175+00');
INSERT INTO public.django_migrations VALUES (21, 'keys', '0004_model_lists', '2026-11-29 13:06:07.722906+00');
INSERT INTO public.django_migrations VALUES (22, 'keys', '0005_accounts', '2026-11-29 13:06:07.787899+00');
INSERT INTO public.django_migrations VALUES (23, 'keys', '0005_calendars', '2026-11-29 13:06:07.856599+00');
INSERT INTO public.django_migrations VALUES (24, 'keys', '0006_max_tokens', '2026-11-29 13:06:07.976582+00');
INSERT INTO public.django_migrations VALUES (25, 'keys', '0008_routing', '2026-11-29 13:06:08.253331+00');
INSERT INTO public.django_migrations VALUES (26, 'keys', '0009_places', '2026-11-29 13:06:08.38344+00');
INSERT INTO public.django_migrations VALUES (27, 'keys', '0010_adaptive_weights', '2026-11-29 13:06:08.486005+00');
INSERT INTO public.django_migrations VALUES (28, 'keys', '0011_provider_kinds', '2026-11-29 13:06:08.661353+00');
INSERT INTO public.django_migrations VALUES (29, 'messages_api', '0001_batches_files_and_bindings', '2026-11-29 13:06:09.061502+00');
INSERT INTO public.django_migrations VALUES (30, 'sessions', '0001_initial', '2026-11-29 13:06:09.125455+00');
INSERT INTO public.django_migrations VALUES (31, 'usage', '0001_initial', '2026-11-29 13:06:09.801367+00');
INSERT INTO public.django_migrations VALUES (32, 'usage', '0002_arbiter', '2026-11-29 13:06:10.445755+00');
INSERT INTO public.django_migrations VALUES (33, 'usage', '0003_first_prices', '2026-11-29 13:06:10.603332+00');
INSERT INTO public.django_migrations VALUES (34, 'usage', '0004_price_revision', '2026-11-29 13:06:10.626992+00');
INSERT INTO public.django_migrations VALUES (35, 'usage', '0005_batches', '2026-11-29 13:06:10.832789+00');
INSERT INTO public.django_migrations VALUES (36, 'usage', '0006_budgets', '2026-11-29 13:06:14.27506+00');
INSERT INTO public.django_migrations VALUES (37, 'usage', '0007_arbiter', '2026-11-29 13:06:14.37546+00');
INSERT INTO public.django_migrations VALUES (38, 'usage', '0008_alert_delivery', '2026-11-29 13:06:14.887889+00');
INSERT INTO public.django_migrations VALUES (39, 'usage', '0011_late_admissions', '2026-11-29 13:06:14.913134+00');
INSERT INTO public.django_migrations VALUES (40, 'usage', '0012_attempts', '2026-11-29 13:06:14.93112+00');
INSERT INTO public.django_migrations VALUES (41, 'usage', '0013_overruns', '2026-11-29 13:06:16.069438+00');
INSERT INTO public.django_migrations VALUES (42, 'usage', '0014_refused_provider_keys', '2026-11-29 13:06:17.058175+00');
INSERT INTO public.keys_gateway VALUES (1, false, 1);
INSERT INTO public.usage_price VALUES (1, 'echo', '*', '2026-01-01 00:00:00+00', 3.000000, 15.000000, 0.300000, 3.750000, 6.000000, 0.000000, 'pretended');
INSERT INTO public.usage_rollupstate VALUES (1, '0', NULL);
SELECT pg_catalog.setval('public.auth_group_id_seq', 1, false);
SELECT pg_catalog.setval('public.auth_group_permissions_id_seq', 1, false);
SELECT pg_catalog.setval('public.auth_user_groups_id_seq', 1, false);
SELECT pg_catalog.setval('public.auth_user_id_seq', 1, false);
SELECT pg_catalog.setval('public.auth_user_user_permissions_id_seq', 1, false);
SELECT pg_catalog.setval('public.django_admin_log_id_seq', 1, false);
SELECT pg_catalog.setval('public.django_migrations_id_seq', 42, true);
SELECT pg_catalog.setval('public.keys_cooldown_id_seq', 1, false);
SELECT pg_catalog.setval('public.keys_credential_id_seq', 1, false);
SELECT pg_catalog.setval('public.keys_customer_id_seq', 1, false);
SELECT pg_catalog.setval('public.keys_gateway_id_seq', 1, false);
SELECT pg_catalog.setval('public.keys_modelalias_id_seq', 1, false);
SELECT pg_catalog.setval('public.keys_performance_id_seq', 1, false);
SELECT pg_catalog.setval('public.keys_providerkey_id_seq', 1, false);
SELECT pg_catalog.setval('public.keys_team_id_seq', 1, false);
SELECT pg_catalog.setval('public.keys_virtualkey_id_seq', 1, false);
SELECT pg_catalog.setval('public.keys_virtualkeyroute_id_seq', 1, false);
SELECT pg_catalog.setval('public.messages_api_binding_id_seq', 1, false);
SELECT pg_catalog.setval('public.usage_adjustment_id_seq', 1, false);
SELECT pg_catalog.setval('public.usage_alert_id_seq', 1, false);
SELECT pg_catalog.setval('public.usage_alerttarget_id_seq', 1, false);
SELECT pg_catalog.setval('public.usage_budget_id_seq', 1, false);
SELECT pg_catalog.setval('public.usage_delivery_id_seq', 1, false);
SELECT pg_catalog.setval('public.usage_limit_id_seq', 1, false);
SELECT pg_catalog.setval('public.usage_override_id_seq', 1, false);
SELECT pg_catalog.setval('public.usage_price_id_seq', 1, true);
SELECT pg_catalog.setval('public.usage_refusalcount_id_seq', 1, false);
SELECT pg_catalog.setval('public.usage_rollup_id_seq', 1, false);
SELECT pg_catalog.setval('public.usage_rollupstate_id_seq', 1, false);
SELECT pg_catalog.setval('public.usage_topup_id_seq', 1, false);
ALTER TABLE ONLY public.auth_group
    ADD CONSTRAINT auth_group_name_key UNIQUE (name);
ALTER TABLE ONLY public.auth_group_permissions
    ADD CONSTRAINT auth_group_permissions_group_id_permission_id_0cd325b0_uniq UNIQUE (group_id, permission_id);
ALTER TABLE ONLY public.auth_group_permissions
    ADD CONSTRAINT auth_group_permissions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.auth_group
    ADD CONSTRAINT auth_group_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.auth_permission
    ADD CONSTRAINT auth_permission_content_type_id_codename_01ab375a_uniq UNIQUE (content_type_id, codename);
ALTER TABLE ONLY public.auth_permission
    ADD CONSTRAINT auth_permission_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.auth_user_groups
    ADD CONSTRAINT auth_user_groups_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.auth_user_groups
    ADD CONSTRAINT auth_user_groups_user_id_group_id_94350c0c_uniq UNIQUE (user_id, group_id);
ALTER TABLE ONLY public.auth_user
    ADD CONSTRAINT auth_user_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.auth_user_user_permissions
    ADD CONSTRAINT auth_user_user_permissions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.auth_user_user_permissions
    ADD CONSTRAINT auth_user_user_permissions_user_id_permission_id_14a6b632_uniq UNIQUE (user_id, permission_id);
ALTER TABLE ONLY public.auth_user
    ADD CONSTRAINT auth_user_username_key UNIQUE (username);
ALTER TABLE ONLY public.django_admin_log
    ADD CONSTRAINT django_admin_log_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.django_content_type
    ADD CONSTRAINT django_content_type_app_label_model_76bd3d3b_uniq UNIQUE (app_label, model);
ALTER TABLE ONLY public.django_content_type
    ADD CONSTRAINT django_content_type_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.django_migrations
    ADD CONSTRAINT django_migrations_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.django_session
    ADD CONSTRAINT django_session_pkey PRIMARY KEY (session_key);
ALTER TABLE ONLY public.keys_cooldown
    ADD CONSTRAINT keys_cooldown_once UNIQUE (provider_key_id, model);
ALTER TABLE ONLY public.keys_cooldown
    ADD CONSTRAINT keys_cooldown_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.keys_credential
    ADD CONSTRAINT keys_credential_digest_key UNIQUE (digest);
ALTER TABLE ONLY public.keys_credential
    ADD CONSTRAINT keys_credential_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.keys_customer
    ADD CONSTRAINT keys_customer_name_key UNIQUE (name);
ALTER TABLE ONLY public.keys_customer
    ADD CONSTRAINT keys_customer_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.keys_gateway
    ADD CONSTRAINT keys_gateway_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.keys_modelalias
    ADD CONSTRAINT keys_modelalias_name_key UNIQUE (name);
ALTER TABLE ONLY public.keys_modelalias
    ADD CONSTRAINT keys_modelalias_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.keys_modellist
    ADD CONSTRAINT keys_modellist_pkey PRIMARY KEY (provider_key_id);
ALTER TABLE ONLY public.keys_performance
    ADD CONSTRAINT keys_performance_once UNIQUE (provider_key_id, model);
ALTER TABLE ONLY public.keys_performance
    ADD CONSTRAINT keys_performance_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.keys_providerkey
    ADD CONSTRAINT keys_providerkey_name_key UNIQUE (name);
ALTER TABLE ONLY public.keys_providerkey
    ADD CONSTRAINT keys_providerkey_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.keys_virtualkeyroute
    ADD CONSTRAINT keys_route_once UNIQUE (virtual_key_id, provider_key_id);
ALTER TABLE ONLY public.keys_team
    ADD CONSTRAINT keys_team_name UNIQUE (customer_id, name);
ALTER TABLE ONLY public.keys_team
    ADD CONSTRAINT keys_team_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.keys_virtualkey
    ADD CONSTRAINT keys_virtualkey_name_key UNIQUE (name);
ALTER TABLE ONLY public.keys_virtualkey
    ADD CONSTRAINT keys_virtualkey_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.keys_virtualkeyroute
    ADD CONSTRAINT keys_virtualkeyroute_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.messages_api_batch
    ADD CONSTRAINT messages_api_batch_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.messages_api_binding
    ADD CONSTRAINT messages_api_binding_name UNIQUE (kind, name);
ALTER TABLE ONLY public.messages_api_binding
    ADD CONSTRAINT messages_api_binding_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.messages_api_file
    ADD CONSTRAINT messages_api_file_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_adjustment
    ADD CONSTRAINT usage_adjustment_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_alert
    ADD CONSTRAINT usage_alert_once UNIQUE (budget_id, start, threshold);
ALTER TABLE ONLY public.usage_alert
    ADD CONSTRAINT usage_alert_overrun_once UNIQUE (virtual_key_id, start);
ALTER TABLE ONLY public.usage_alert
    ADD CONSTRAINT usage_alert_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_alert
    ADD CONSTRAINT usage_alert_refused_once UNIQUE (provider_key_id, start);
ALTER TABLE ONLY public.usage_alerttarget
    ADD CONSTRAINT usage_alerttarget_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_budget
    ADD CONSTRAINT usage_budget_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_delivery
    ADD CONSTRAINT usage_delivery_once UNIQUE (alert_id, target_id);
ALTER TABLE ONLY public.usage_delivery
    ADD CONSTRAINT usage_delivery_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_hold
    ADD CONSTRAINT usage_hold_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_ledgerentry
    ADD CONSTRAINT usage_ledgerentry_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_ledgerentry_other
    ADD CONSTRAINT usage_ledgerentry_other_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_limit
    ADD CONSTRAINT usage_limit_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_limitstate
    ADD CONSTRAINT usage_limitstate_pkey PRIMARY KEY (limit_id);
ALTER TABLE ONLY public.usage_override
    ADD CONSTRAINT usage_override_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_overrun
    ADD CONSTRAINT usage_overrun_pkey PRIMARY KEY (call);
ALTER TABLE ONLY public.usage_price
    ADD CONSTRAINT usage_price_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_process
    ADD CONSTRAINT usage_process_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_refusalcount
    ADD CONSTRAINT usage_refusal_cell UNIQUE NULLS NOT DISTINCT (minute, reason, virtual_key_id);
ALTER TABLE ONLY public.usage_refusal
    ADD CONSTRAINT usage_refusal_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_refusalcount
    ADD CONSTRAINT usage_refusalcount_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_retained
    ADD CONSTRAINT usage_retained_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_rollup
    ADD CONSTRAINT usage_rollup_cell UNIQUE NULLS NOT DISTINCT (bucket, customer_id, team_id, virtual_key_id, provider_key_id, model, status);
ALTER TABLE ONLY public.usage_rollup
    ADD CONSTRAINT usage_rollup_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_rollupstate
    ADD CONSTRAINT usage_rollupstate_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_topup
    ADD CONSTRAINT usage_topup_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage_window
    ADD CONSTRAINT usage_window_pkey PRIMARY KEY (budget_id, start);
ALTER TABLE ONLY public.usage_writer
    ADD CONSTRAINT usage_writer_pkey PRIMARY KEY (process);
CREATE INDEX auth_group_name_a6ea08ec_like ON public.auth_group USING btree (name varchar_pattern_ops);
CREATE INDEX auth_group_permissions_group_id_b120cbf9 ON public.auth_group_permissions USING btree (group_id);
CREATE INDEX auth_group_permissions_permission_id_84c5c92e ON public.auth_group_permissions USING btree (permission_id);
CREATE INDEX auth_permission_content_type_id_2f476e4b ON public.auth_permission USING btree (content_type_id);
CREATE INDEX auth_user_groups_group_id_97559544 ON public.auth_user_groups USING btree (group_id);
CREATE INDEX auth_user_groups_user_id_6a12ed8b ON public.auth_user_groups USING btree (user_id);
CREATE INDEX auth_user_user_permissions_permission_id_1fbb5f2c ON public.auth_user_user_permissions USING btree (permission_id);
CREATE INDEX auth_user_user_permissions_user_id_a95ead1b ON public.auth_user_user_permissions USING btree (user_id);
CREATE INDEX auth_user_username_6821ab7c_like ON public.auth_user USING btree (username varchar_pattern_ops);
CREATE INDEX django_admin_log_content_type_id_c4bce8eb ON public.django_admin_log USING btree (content_type_id);
CREATE INDEX django_admin_log_user_id_c564eba6 ON public.django_admin_log USING btree (user_id);
CREATE INDEX django_session_expire_date_a5c62663 ON public.django_session USING btree (expire_date);
CREATE INDEX django_session_session_key_c0390e0f_like ON public.django_session USING btree (session_key varchar_pattern_ops);
CREATE INDEX keys_cooldown_provider_key_id_022cc2a7 ON public.keys_cooldown USING btree (provider_key_id);
CREATE INDEX keys_credential_last_acd94224 ON public.keys_credential USING btree (last);
CREATE INDEX keys_credential_last_acd94224_like ON public.keys_credential USING btree (last varchar_pattern_ops);
CREATE INDEX keys_credential_virtual_key_id_405479f4 ON public.keys_credential USING btree (virtual_key_id);
CREATE INDEX keys_customer_name_9c6e8540_like ON public.keys_customer USING btree (name varchar_pattern_ops);
CREATE INDEX keys_modelalias_name_c8f71ed0_like ON public.keys_modelalias USING btree (name varchar_pattern_ops);
CREATE INDEX keys_performance_provider_key_id_1be99c8f ON public.keys_performance USING btree (provider_key_id);
CREATE INDEX keys_providerkey_name_419d2eb6_like ON public.keys_providerkey USING btree (name varchar_pattern_ops);
CREATE INDEX keys_team_customer_id_be2d60fb ON public.keys_team USING btree (customer_id);
CREATE UNIQUE INDEX keys_token_name ON public.keys_credential USING btree (name) WHERE ((kind)::text = 'gateway_token'::text);
CREATE INDEX keys_virtualkey_customer_id_18dd7ff9 ON public.keys_virtualkey USING btree (customer_id);
CREATE INDEX keys_virtualkey_name_d6b3c94e_like ON public.keys_virtualkey USING btree (name varchar_pattern_ops);
CREATE INDEX keys_virtualkey_team_id_0f8b3cfb ON public.keys_virtualkey USING btree (team_id);
CREATE INDEX keys_virtualkeyroute_provider_key_id_e196cfef ON public.keys_virtualkeyroute USING btree (provider_key_id);
CREATE INDEX keys_virtualkeyroute_virtual_key_id_d2050594 ON public.keys_virtualkeyroute USING btree (virtual_key_id);
CREATE INDEX keys_vk_cut ON public.keys_virtualkey USING btree (cut_streams_at) WHERE (cut_streams_at IS NOT NULL);
CREATE INDEX messages_api_batch_key ON public.messages_api_batch USING btree (virtual_key_id, id DESC);
CREATE INDEX messages_api_batch_open ON public.messages_api_batch USING btree (asked_at) WHERE ((state)::text = ANY ((ARRAY['creating'::character varying, 'running'::character varying])::text[]));
CREATE UNIQUE INDEX messages_api_batch_provider_id ON public.messages_api_batch USING btree (provider_key_id, provider_batch_id) WHERE (NOT (provider_batch_id = ''::text));
CREATE INDEX messages_api_batch_provider_key_id_fe66fbe6 ON public.messages_api_batch USING btree (provider_key_id);
CREATE INDEX messages_api_batch_team_id_19503bf1 ON public.messages_api_batch USING btree (team_id);
CREATE INDEX messages_api_batch_virtual_key_id_dca4dda5 ON public.messages_api_batch USING btree (virtual_key_id);
CREATE INDEX messages_api_binding_expires_at_90a094fa ON public.messages_api_binding USING btree (expires_at);
CREATE INDEX messages_api_binding_provider_key_id_1bfd87be ON public.messages_api_binding USING btree (provider_key_id);
CREATE INDEX messages_api_binding_team_id_ede77d75 ON public.messages_api_binding USING btree (team_id);
CREATE INDEX messages_api_binding_virtual_key_id_67f93965 ON public.messages_api_binding USING btree (virtual_key_id);
CREATE INDEX messages_api_file_id_ef47631d_like ON public.messages_api_file USING btree (id text_pattern_ops);
CREATE INDEX messages_api_file_key ON public.messages_api_file USING btree (virtual_key_id, created_at DESC, id);
CREATE INDEX messages_api_file_provider_key_id_95ed3e5e ON public.messages_api_file USING btree (provider_key_id);
CREATE INDEX messages_api_file_team ON public.messages_api_file USING btree (team_id, created_at DESC, id);
CREATE INDEX messages_api_file_team_id_8e59a8ea ON public.messages_api_file USING btree (team_id);
CREATE INDEX messages_api_file_virtual_key_id_363e9cbb ON public.messages_api_file USING btree (virtual_key_id);
CREATE INDEX usage_adjustment_entry ON public.usage_adjustment USING btree (entry_id);
CREATE INDEX usage_adjustment_xid ON public.usage_adjustment USING btree (xid);
CREATE INDEX usage_alert_budget_id_82a33ca3 ON public.usage_alert USING btree (budget_id);
CREATE INDEX usage_alert_provider_key_id_e10ad04f ON public.usage_alert USING btree (provider_key_id);
CREATE INDEX usage_alert_untold ON public.usage_alert USING btree (id) WHERE (delivered_at IS NULL);
CREATE INDEX usage_alert_virtual_key_id_ad3d7601 ON public.usage_alert USING btree (virtual_key_id);
CREATE INDEX usage_alerttarget_customer_id_2bb7a446 ON public.usage_alerttarget USING btree (customer_id);
CREATE INDEX usage_budget_customer_id_70f34641 ON public.usage_budget USING btree (customer_id);
CREATE INDEX usage_budget_owner ON public.usage_budget USING btree (owner) WHERE active;
CREATE INDEX usage_budget_provider_key_id_e8862bf2 ON public.usage_budget USING btree (provider_key_id);
CREATE INDEX usage_budget_team_id_b9efa048 ON public.usage_budget USING btree (team_id);
CREATE INDEX usage_budget_virtual_key_id_5ff96d08 ON public.usage_budget USING btree (virtual_key_id);
CREATE INDEX usage_delivery_alert_id_283e4140 ON public.usage_delivery USING btree (alert_id);
CREATE INDEX usage_delivery_due ON public.usage_delivery USING btree (next_at) WHERE ((delivered_at IS NULL) AND (given_up_at IS NULL));
CREATE INDEX usage_delivery_target_id_a3f92550 ON public.usage_delivery USING btree (target_id);
CREATE INDEX usage_hold_customer_id_f6bae68b ON public.usage_hold USING btree (customer_id);
CREATE INDEX usage_hold_process_02f879ef ON public.usage_hold USING btree (process);
CREATE INDEX usage_hold_team_id_28d3e32d ON public.usage_hold USING btree (team_id);
CREATE INDEX usage_hold_virtual_key_id_050e23f7 ON public.usage_hold USING btree (virtual_key_id);
CREATE INDEX usage_ledgerentry_admitted ON ONLY public.usage_ledgerentry USING brin (admitted_at);
CREATE INDEX usage_ledgerentry_other_admitted_at_idx ON public.usage_ledgerentry_other USING brin (admitted_at);
CREATE INDEX usage_ledgerentry_provider_request ON ONLY public.usage_ledgerentry USING btree (provider_request_id) WHERE (provider_request_id <> ''::text);
CREATE INDEX usage_ledgerentry_other_provider_request_id_idx ON public.usage_ledgerentry_other USING btree (provider_request_id) WHERE (provider_request_id <> ''::text);
CREATE INDEX usage_ledgerentry_virtual_key ON ONLY public.usage_ledgerentry USING btree (virtual_key_id, id);
CREATE INDEX usage_ledgerentry_other_virtual_key_id_id_idx ON public.usage_ledgerentry_other USING btree (virtual_key_id, id);
CREATE INDEX usage_ledgerentry_xid ON ONLY public.usage_ledgerentry USING btree (xid);
CREATE INDEX usage_ledgerentry_other_xid_idx ON public.usage_ledgerentry_other USING btree (xid);
CREATE INDEX usage_limit_customer_id_ebfc8203 ON public.usage_limit USING btree (customer_id);
CREATE INDEX usage_limit_owner ON public.usage_limit USING btree (owner) WHERE active;
CREATE INDEX usage_limit_provider_key_id_435561c4 ON public.usage_limit USING btree (provider_key_id);
CREATE INDEX usage_limit_team_id_dd87813c ON public.usage_limit USING btree (team_id);
CREATE INDEX usage_limit_virtual_key_id_1b88b657 ON public.usage_limit USING btree (virtual_key_id);
CREATE UNIQUE INDEX usage_one_late_settlement ON public.usage_adjustment USING btree (entry_id) WHERE ((reason)::text = 'late_settlement'::text);
CREATE INDEX usage_override_budget_id_52491381 ON public.usage_override USING btree (budget_id);
CREATE INDEX usage_override_current ON public.usage_override USING btree (budget_id, until);
CREATE INDEX usage_overrun_untold ON public.usage_overrun USING btree (at) WHERE (NOT told);
CREATE INDEX usage_overrun_virtual_key_id_eb6721ec ON public.usage_overrun USING btree (virtual_key_id);
CREATE INDEX usage_refusal_refused_at_7e457247 ON public.usage_refusal USING btree (refused_at);
CREATE INDEX usage_refusal_virtual_key_id_fbf00957 ON public.usage_refusal USING btree (virtual_key_id);
CREATE INDEX usage_refusalcount_virtual_key_id_40c1c942 ON public.usage_refusalcount USING btree (virtual_key_id);
CREATE INDEX usage_retained_retained_at_68bde207 ON public.usage_retained USING btree (retained_at);
CREATE INDEX usage_rollup_customer_id_b3925a80 ON public.usage_rollup USING btree (customer_id);
CREATE INDEX usage_rollup_provider_key_id_36d9b434 ON public.usage_rollup USING btree (provider_key_id);
CREATE INDEX usage_rollup_team_id_5dbb58f5 ON public.usage_rollup USING btree (team_id);
CREATE INDEX usage_rollup_virtual_key_id_0e183a9d ON public.usage_rollup USING btree (virtual_key_id);
CREATE INDEX usage_topup_budget_id_34b5f146 ON public.usage_topup USING btree (budget_id);
CREATE INDEX usage_window_budget_id_8c005148 ON public.usage_window USING btree (budget_id);
ALTER INDEX public.usage_ledgerentry_admitted ATTACH PARTITION public.usage_ledgerentry_other_admitted_at_idx;
ALTER INDEX public.usage_ledgerentry_pkey ATTACH PARTITION public.usage_ledgerentry_other_pkey;
ALTER INDEX public.usage_ledgerentry_provider_request ATTACH PARTITION public.usage_ledgerentry_other_provider_request_id_idx;
ALTER INDEX public.usage_ledgerentry_virtual_key ATTACH PARTITION public.usage_ledgerentry_other_virtual_key_id_id_idx;
ALTER INDEX public.usage_ledgerentry_xid ATTACH PARTITION public.usage_ledgerentry_other_xid_idx;
CREATE TRIGGER keys_modelalias_revision AFTER INSERT OR DELETE OR UPDATE ON public.keys_modelalias FOR EACH STATEMENT EXECUTE FUNCTION public.keys_touch_catalogue();
CREATE TRIGGER keys_modellist_came_or_went AFTER INSERT OR DELETE ON public.keys_modellist FOR EACH ROW EXECUTE FUNCTION public.keys_touch_catalogue();
CREATE TRIGGER keys_modellist_revision AFTER UPDATE ON public.keys_modellist FOR EACH ROW WHEN ((old.listed IS DISTINCT FROM new.listed)) EXECUTE FUNCTION public.keys_touch_catalogue();
CREATE TRIGGER keys_providerkey_account BEFORE UPDATE ON public.keys_providerkey FOR EACH ROW WHEN (((((((old.provider)::text IS DISTINCT FROM (new.provider)::text) OR ((old.base_url)::text IS DISTINCT FROM (new.base_url)::text)) OR (old.secret_ciphertext IS DISTINCT FROM new.secret_ciphertext)) OR ((old.region)::text IS DISTINCT FROM (new.region)::text)) OR ((old.project)::text IS DISTINCT FROM (new.project)::text))) EXECUTE FUNCTION public.keys_forget_account();
CREATE TRIGGER keys_providerkey_cooldown AFTER UPDATE ON public.keys_providerkey FOR EACH ROW WHEN (((((((old.provider)::text IS DISTINCT FROM (new.provider)::text) OR ((old.base_url)::text IS DISTINCT FROM (new.base_url)::text)) OR (old.secret_ciphertext IS DISTINCT FROM new.secret_ciphertext)) OR ((old.region)::text IS DISTINCT FROM (new.region)::text)) OR ((old.project)::text IS DISTINCT FROM (new.project)::text))) EXECUTE FUNCTION public.keys_end_cooldowns();
CREATE TRIGGER keys_providerkey_models AFTER UPDATE ON public.keys_providerkey FOR EACH ROW WHEN ((((((old.provider)::text IS DISTINCT FROM (new.provider)::text) OR ((old.base_url)::text IS DISTINCT FROM (new.base_url)::text)) OR (old.secret_ciphertext IS DISTINCT FROM new.secret_ciphertext)) OR (old.active IS DISTINCT FROM new.active))) EXECUTE FUNCTION public.keys_ask_for_models();
CREATE TRIGGER keys_providerkey_revision AFTER INSERT OR DELETE OR UPDATE ON public.keys_providerkey FOR EACH ROW EXECUTE FUNCTION public.keys_touch_catalogue();
CREATE TRIGGER keys_team_revision AFTER UPDATE ON public.keys_team FOR EACH ROW WHEN (((old.max_tokens IS DISTINCT FROM new.max_tokens) OR (old.default_max_tokens IS DISTINCT FROM new.default_max_tokens))) EXECUTE FUNCTION public.keys_touch_keys_of_team();
CREATE TRIGGER keys_virtualkey_revision BEFORE UPDATE ON public.keys_virtualkey FOR EACH ROW EXECUTE FUNCTION public.keys_move_revision();
CREATE TRIGGER keys_virtualkeyroute_revision AFTER INSERT OR DELETE OR UPDATE ON public.keys_virtualkeyroute FOR EACH ROW EXECUTE FUNCTION public.keys_touch_virtual_key();
CREATE TRIGGER usage_adjustment_append_only BEFORE DELETE OR UPDATE ON public.usage_adjustment FOR EACH ROW EXECUTE FUNCTION public.usage_refuse_change();
CREATE TRIGGER usage_adjustment_counts AFTER INSERT ON public.usage_adjustment REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.usage_count_adjustments();
CREATE TRIGGER usage_adjustment_overrun AFTER INSERT ON public.usage_adjustment FOR EACH ROW WHEN ((((new.reason)::text = 'late_settlement'::text) AND (new.cost > (0)::numeric))) EXECUTE FUNCTION public.usage_note_late_overrun();
CREATE TRIGGER usage_budget_meaning BEFORE UPDATE ON public.usage_budget FOR EACH ROW WHEN (((((((old.customer_id IS DISTINCT FROM new.customer_id) OR (old.team_id IS DISTINCT FROM new.team_id)) OR (old.virtual_key_id IS DISTINCT FROM new.virtual_key_id)) OR ((old.unit)::text IS DISTINCT FROM (new.unit)::text)) OR ((old.period)::text IS DISTINCT FROM (new.period)::text)) OR (old.rolling IS DISTINCT FROM new.rolling))) EXECUTE FUNCTION public.usage_refuse_new_meaning();
CREATE TRIGGER usage_cooldown_refused AFTER INSERT ON public.keys_cooldown FOR EACH ROW WHEN (((new.reason)::text = 'refused'::text)) EXECUTE FUNCTION public.usage_tell_of_refused();
CREATE TRIGGER usage_cooldown_refused_again AFTER UPDATE ON public.keys_cooldown FOR EACH ROW WHEN ((((new.reason)::text = 'refused'::text) AND (new.strikes > old.strikes))) EXECUTE FUNCTION public.usage_tell_of_refused();
CREATE TRIGGER usage_ledgerentry_append_only BEFORE DELETE OR UPDATE ON public.usage_ledgerentry FOR EACH ROW EXECUTE FUNCTION public.usage_refuse_change();
CREATE TRIGGER usage_ledgerentry_overrun AFTER INSERT ON public.usage_ledgerentry FOR EACH ROW WHEN (((new.cost > new.held) AND (new.held > (0)::numeric))) EXECUTE FUNCTION public.usage_note_overrun();
CREATE TRIGGER usage_override_append_only BEFORE DELETE OR UPDATE ON public.usage_override FOR EACH ROW EXECUTE FUNCTION public.usage_refuse_change();
CREATE TRIGGER usage_price_revision AFTER INSERT OR DELETE OR UPDATE ON public.usage_price FOR EACH STATEMENT EXECUTE FUNCTION public.keys_touch_catalogue();
CREATE TRIGGER usage_topup_amount AFTER INSERT ON public.usage_topup FOR EACH ROW EXECUTE FUNCTION public.usage_add_top_up();
CREATE TRIGGER usage_topup_append_only BEFORE DELETE OR UPDATE ON public.usage_topup FOR EACH ROW EXECUTE FUNCTION public.usage_refuse_change();
ALTER TABLE ONLY public.auth_group_permissions
    ADD CONSTRAINT auth_group_permissio_permission_id_84c5c92e_fk_auth_perm FOREIGN KEY (permission_id) REFERENCES public.auth_permission(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.auth_group_permissions
    ADD CONSTRAINT auth_group_permissions_group_id_b120cbf9_fk_auth_group_id FOREIGN KEY (group_id) REFERENCES public.auth_group(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.auth_permission
    ADD CONSTRAINT auth_permission_content_type_id_2f476e4b_fk_django_co FOREIGN KEY (content_type_id) REFERENCES public.django_content_type(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.auth_user_groups
    ADD CONSTRAINT auth_user_groups_group_id_97559544_fk_auth_group_id FOREIGN KEY (group_id) REFERENCES public.auth_group(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.auth_user_groups
    ADD CONSTRAINT auth_user_groups_user_id_6a12ed8b_fk_auth_user_id FOREIGN KEY (user_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.auth_user_user_permissions
    ADD CONSTRAINT auth_user_user_permi_permission_id_1fbb5f2c_fk_auth_perm FOREIGN KEY (permission_id) REFERENCES public.auth_permission(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.auth_user_user_permissions
    ADD CONSTRAINT auth_user_user_permissions_user_id_a95ead1b_fk_auth_user_id FOREIGN KEY (user_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.django_admin_log
    ADD CONSTRAINT django_admin_log_content_type_id_c4bce8eb_fk_django_co FOREIGN KEY (content_type_id) REFERENCES public.django_content_type(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.django_admin_log
    ADD CONSTRAINT django_admin_log_user_id_c564eba6_fk_auth_user_id FOREIGN KEY (user_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.keys_cooldown
    ADD CONSTRAINT keys_cooldown_provider_key_id_022cc2a7_fk_keys_providerkey_id FOREIGN KEY (provider_key_id) REFERENCES public.keys_providerkey(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.keys_credential
    ADD CONSTRAINT keys_credential_virtual_key_id_405479f4_fk_keys_virtualkey_id FOREIGN KEY (virtual_key_id) REFERENCES public.keys_virtualkey(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.keys_modellist
    ADD CONSTRAINT keys_modellist_provider_key FOREIGN KEY (provider_key_id) REFERENCES public.keys_providerkey(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.keys_performance
    ADD CONSTRAINT keys_performance_provider_key_id_1be99c8f_fk_keys_prov FOREIGN KEY (provider_key_id) REFERENCES public.keys_providerkey(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.keys_team
    ADD CONSTRAINT keys_team_customer_id_be2d60fb_fk_keys_customer_id FOREIGN KEY (customer_id) REFERENCES public.keys_customer(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.keys_virtualkey
    ADD CONSTRAINT keys_virtualkey_customer_id_18dd7ff9_fk_keys_customer_id FOREIGN KEY (customer_id) REFERENCES public.keys_customer(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.keys_virtualkey
    ADD CONSTRAINT keys_virtualkey_team_id_0f8b3cfb_fk_keys_team_id FOREIGN KEY (team_id) REFERENCES public.keys_team(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.keys_virtualkeyroute
    ADD CONSTRAINT keys_virtualkeyroute_provider_key_id_e196cfef_fk_keys_prov FOREIGN KEY (provider_key_id) REFERENCES public.keys_providerkey(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.keys_virtualkeyroute
    ADD CONSTRAINT keys_virtualkeyroute_virtual_key_id_d2050594_fk_keys_virt FOREIGN KEY (virtual_key_id) REFERENCES public.keys_virtualkey(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_alerttarget
    ADD CONSTRAINT usage_alerttarget_customer_id_2bb7a446_fk_keys_customer_id FOREIGN KEY (customer_id) REFERENCES public.keys_customer(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_budget
    ADD CONSTRAINT usage_budget_customer_id_70f34641_fk_keys_customer_id FOREIGN KEY (customer_id) REFERENCES public.keys_customer(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_budget
    ADD CONSTRAINT usage_budget_provider_key_id_e8862bf2_fk_keys_providerkey_id FOREIGN KEY (provider_key_id) REFERENCES public.keys_providerkey(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_budget
    ADD CONSTRAINT usage_budget_team_id_b9efa048_fk_keys_team_id FOREIGN KEY (team_id) REFERENCES public.keys_team(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_budget
    ADD CONSTRAINT usage_budget_virtual_key_id_5ff96d08_fk_keys_virtualkey_id FOREIGN KEY (virtual_key_id) REFERENCES public.keys_virtualkey(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_delivery
    ADD CONSTRAINT usage_delivery_alert_id_283e4140_fk_usage_alert_id FOREIGN KEY (alert_id) REFERENCES public.usage_alert(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_delivery
    ADD CONSTRAINT usage_delivery_target_id_a3f92550_fk_usage_alerttarget_id FOREIGN KEY (target_id) REFERENCES public.usage_alerttarget(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_limit
    ADD CONSTRAINT usage_limit_customer_id_ebfc8203_fk_keys_customer_id FOREIGN KEY (customer_id) REFERENCES public.keys_customer(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_limit
    ADD CONSTRAINT usage_limit_provider_key_id_435561c4_fk_keys_providerkey_id FOREIGN KEY (provider_key_id) REFERENCES public.keys_providerkey(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_limit
    ADD CONSTRAINT usage_limit_team_id_dd87813c_fk_keys_team_id FOREIGN KEY (team_id) REFERENCES public.keys_team(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_limit
    ADD CONSTRAINT usage_limit_virtual_key_id_1b88b657_fk_keys_virtualkey_id FOREIGN KEY (virtual_key_id) REFERENCES public.keys_virtualkey(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_override
    ADD CONSTRAINT usage_override_budget_id_52491381_fk_usage_budget_id FOREIGN KEY (budget_id) REFERENCES public.usage_budget(id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.usage_topup
    ADD CONSTRAINT usage_topup_budget_id_34b5f146_fk_usage_budget_id FOREIGN KEY (budget_id) REFERENCES public.usage_budget(id) DEFERRABLE INITIALLY DEFERRED;
