-- Alerts of budgets that refuse a call. A hard budget refuses what doesn't fit any more, so it may never come to 100 %.
-- The transaction that refuses writes the alert, before the caller has its answer: a process that dies then loses none.
-- An admission pays nothing for it.

-- When the span of a budget began in which it alerts once: with the current window (p_start). A prepaid budget has one
-- window for ever, so each top-up begins a span. Between two windows of a rolling budget (p_start is null) the span began
-- when the first of them ended. Null where a calendar's window wasn't used yet.
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

-- When a budget first refused a call in that span; null where it hasn't. These alerts have the threshold 0.
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
    -- usage_group deletes a rolling window of its own making that admits nothing: such a window began no span.
    LATERAL (SELECT usage_exhaustible_since(b, CASE
        WHEN b.rolling AND w.spent = 0 AND w.held = 0 AND w.xmin = pg_current_xact_id()::xid THEN NULL
        ELSE w.start END, p_moment)) AS since (start)
    WHERE NOT EXISTS (
        SELECT FROM usage_alert a WHERE a.budget_id = b.id AND a.start = since.start AND a.threshold = 0)
    ORDER BY b.id, e.ordinality
    ON CONFLICT DO NOTHING;
END $$;

-- usage_decide of arbiter.sql, with alerts of all budgets that refuse, and buckets by the kind of their limits.
CREATE OR REPLACE FUNCTION usage_decide(
    p_process uuid, p_counted usage_counted[], p_budgets bigint[], p_locked usage_change[], p_throttles bigint[])
RETURNS usage_verdict[] LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := usage_now();
    windows integer := coalesce(cardinality(p_locked), 0);
    calls usage_weighed[];
    admitted usage_weighed[];
    call usage_weighed;
    need usage_need;
    blocker usage_need;
    exhausted usage_need[];
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
            CROSS JOIN LATERAL (SELECT usage_bucket(l.kind, l.rate, l.burst)) AS b (burst)
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
                IF need.throttle IS NULL THEN
                    need.room := room;
                    exhausted := exhausted || need;
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
    IF exhausted IS NOT NULL THEN
        PERFORM usage_tell_of_exhausted(exhausted, moment);
    END IF;
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

-- usage_hold_more of attempts.sql, likewise.
CREATE OR REPLACE FUNCTION usage_hold_more(
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

-- The rule that knew no kinds; nothing asks it any more.
DROP FUNCTION usage_bucket(bigint, bigint);
