-- Who is admitted: verdicts on callers, and on calls that budgets or limits apply to.

-- Why the whole gateway is paused. It is a function of its own, because a query inside of `usage_bars` would keep a
-- statement from inlining that; and PL/pgSQL reads it only where the gateway is paused, so that calls pass on tables that
-- aren't migrated yet.
CREATE FUNCTION usage_gateway_pause() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE WHEN EXISTS (SELECT FROM usage_restoredcopy) THEN 'restored copy' ELSE 'gateway paused' END;
END $$;

-- What keeps a credential from calling, in the order in which a caller gets to know it. Volatile, because it reads the
-- clock; a statement inlines it.
CREATE FUNCTION usage_bars(
    c keys_credential, v keys_virtualkey, t keys_team, u keys_customer, g keys_gateway)
RETURNS text[] LANGUAGE sql AS $$
    SELECT array_remove(ARRAY[
        CASE WHEN v.revoked_at IS NOT NULL OR c.revoked_at <= clock_timestamp() THEN 'revoked' END,
        CASE WHEN least(c.expires_at, v.expires_at) <= clock_timestamp() THEN 'expired' END,
        CASE WHEN NOT v.active THEN 'key paused' END,
        CASE WHEN t.paused THEN 'team paused' END,
        CASE WHEN u.paused THEN 'customer paused' END,
        CASE WHEN g.paused THEN usage_gateway_pause() END], NULL)
$$;

-- Who calls with a credential, and the verdict on the key alone: `admitted`, the reason why not, or `stale` if the
-- process knows an older revision. Reading the clock keeps the look-up of each caller apart in the statement that this
-- is inlined into: otherwise a plan from when tables were small would scan them.
CREATE FUNCTION usage_caller(p_credential bigint, p_revision bigint, p_catalogue_revision bigint)
RETURNS TABLE (virtual_key_id bigint, team_id bigint, customer_id bigint, labels jsonb, verdict text)
LANGUAGE sql STABLE AS $$
    SELECT v.id, v.team_id, v.customer_id, v.labels, coalesce(
        (usage_bars(c, v, t, u, g))[1],
        CASE WHEN v.revision <> p_revision OR coalesce(g.catalogue_revision, 0) <> p_catalogue_revision
            THEN 'stale' ELSE 'admitted' END)
    FROM keys_credential c
    JOIN keys_virtualkey v ON v.id = c.virtual_key_id
    LEFT JOIN keys_team t ON t.id = v.team_id
    LEFT JOIN keys_customer u ON u.id = v.customer_id
    LEFT JOIN keys_gateway g ON true
    WHERE c.id = p_credential
$$;

-- The cool-downs that keep a call from its provider key now.
CREATE FUNCTION usage_cooldowns_of(p_provider_key bigint, p_model text, p_shares jsonb)
RETURNS SETOF keys_cooldown LANGUAGE sql STABLE AS $$
    SELECT * FROM keys_cooldown c WHERE c.provider_key_id = p_provider_key
        AND usage_is_for(c.model, p_model, p_shares) AND c.until > clock_timestamp()
$$;

-- What a call needs of each budget and limit that applies to it, and the room there at this moment, by counters as they
-- are committed. A budget without a window has not been used yet.
CREATE FUNCTION usage_needs_of(
    p_asked usage_asked, p_customer bigint, p_team bigint, p_virtual_key bigint, p_moment timestamptz)
RETURNS SETOF usage_need LANGUAGE sql STABLE AS $$
    SELECT NULL::integer, b.id, w.start, b.unit = 'tokens', NULL::bigint, b.enforcement <> 'soft',
        CASE b.enforcement WHEN 'expected' THEN least(usage_most(b, p_asked),
            usage_likely(p_virtual_key, p_asked.requested_model, b.unit = 'tokens'))
            ELSE usage_most(b, p_asked) END,
        allowed.amount - coalesce(w.spent + w.held, 0), NULL::numeric, NULL::numeric
    FROM usage_budgets_of(
        p_customer, p_team, p_virtual_key, p_asked.provider_key, p_asked.requested_model, p_asked.shares) AS b
    CROSS JOIN LATERAL usage_allowed(b.id, b.amount, p_moment) AS allowed
    LEFT JOIN LATERAL usage_current(b.id, p_moment) AS w ON true
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, l.id, true, CASE l.kind
            WHEN 'input_tpm' THEN p_asked.input_tokens
            WHEN 'output_tpm' THEN p_asked.max_tokens
            ELSE 1 END, CASE l.kind WHEN 'parallel' THEN l.rate - coalesce(s.running, 0)
            ELSE b.burst - greatest(0, extract(epoch FROM s.full_at - p_moment)) * l.rate / 60 END,
        CASE WHEN l.kind LIKE '%tpm' THEN b.burst END,
        CASE WHEN l.kind <> 'parallel' THEN l.rate / 60.0 END
    FROM usage_limits_of(
        p_customer, p_team, p_virtual_key, p_asked.provider_key, p_asked.requested_model, p_asked.shares) AS l
    CROSS JOIN LATERAL (SELECT usage_bucket(l.kind, l.rate, l.burst)) AS b (burst)
    LEFT JOIN usage_limitstate s ON s.limit_id = l.id
    -- A call that lasts for days counts in no limit of parallel calls, and its tokens in no limit per minute.
    WHERE p_asked.expires_seconds IS NULL OR l.kind = 'rpm'
$$;

-- How many seconds a call would have to wait for this room: null if it fits, infinite for a budget. A call of more
-- than a full bucket passes when the bucket is full.
CREATE FUNCTION usage_wait(
    p_binding boolean, p_need numeric, p_room numeric, p_full_room numeric, p_pace numeric, p_throttle bigint)
RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_binding AND p_need > p_room AND p_room < coalesce(p_full_room, p_need)
        THEN CASE WHEN p_throttle IS NULL THEN 'infinity'
            ELSE coalesce((least(p_need, p_full_room) - p_room) / p_pace, 1) END END
$$;

-- The budget or limit that refuses, with its owner, what was needed and what is left, as JSON. Amounts are strings,
-- moments ISO 8601 in UTC. A budget without a window shows the end of the one that the call would open.
CREATE FUNCTION usage_refusal(
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
            'spent', trim_scale(coalesce(w.spent, 0))::text,
            'held', trim_scale(allowed.amount - coalesce(w.spent, 0) - p_left)::text,
            'needed', trim_scale(p_needed)::text, 'left', trim_scale(p_left)::text,
            'until', coalesce(w.until, next.until),
            'time_zone', u.time_zone, 'language', u.language)
        INTO said
        FROM usage_budget b
        LEFT JOIN keys_virtualkey v ON v.id = b.virtual_key_id
        LEFT JOIN keys_team t ON t.id = b.team_id
        JOIN keys_customer u ON u.id = coalesce(b.customer_id, t.customer_id, v.customer_id)
        LEFT JOIN LATERAL usage_current(b.id, p_moment) AS w ON true
        LEFT JOIN LATERAL usage_window_at(b.period, b.rolling, u.time_zone, u.fiscal_year_month, p_moment) AS next
            ON w.start IS NULL,
        usage_allowed(b.id, b.amount, p_moment) AS allowed
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

-- Decide on calls that budgets or limits apply to, and hold what they may cost; the counters are locked. Every budget
-- and limit that applies must allow a call. A refused call changes nothing, so a smaller one after it may still pass.
-- Verdicts beyond usage_caller's:
--   budget     a budget has too little left; the detail says which, and what was needed
--   limit      a limit's rate or number of calls is reached; the detail says which limit, and when to try again
-- The detail of an admitted call lists the state of its limits after the group, and a budget that has no room for
-- another such call until this one is settled.
CREATE FUNCTION usage_decide(
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
    verdict usage_verdict;
    verdicts usage_verdict[];
BEGIN
    -- One snapshot: the caller, what applies to the call, and what is left.
    SELECT array_agg(ROW(
        c.asked, k.virtual_key_id, k.team_id, k.customer_id, k.labels, k.verdict,
        CASE WHEN k.verdict = 'admitted' THEN ARRAY(
            SELECT ROW(
                CASE WHEN n.throttle IS NOT NULL THEN windows + array_position(p_throttles, n.throttle)
                    WHEN n.start = (p_locked[at.slot]).start THEN at.slot END,
                n.budget, n.start, n.tokens, n.throttle, n.binding, n.need, n.room, n.full_room, n.pace)::usage_need
            FROM usage_needs_of(c.asked, k.customer_id, k.team_id, k.virtual_key_id, moment) AS n
            CROSS JOIN LATERAL (SELECT array_position(p_budgets, n.budget)) AS at (slot)
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
            wait := usage_wait(need.binding, need.need, room, need.full_room, need.pace, need.throttle);
            IF wait IS NOT NULL THEN
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
            verdict := ROW((call.asked).id, CASE WHEN blocker.throttle IS NULL THEN 'budget' ELSE 'limit' END,
                usage_refusal(blocker.budget, blocker.throttle, blocker.need, room_there, longest, moment));
            verdicts := verdicts || verdict;
        ELSIF call.verdict <> 'admitted' THEN
            verdict := ROW((call.asked).id, call.verdict, NULL);
            verdicts := verdicts || verdict;
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

    PERFORM usage_make_holds(p_process, moment, admitted);
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
        verdict := ROW((call.asked).id, 'admitted', NULL);
        nearly_empty := false;
        FOREACH need IN ARRAY call.needs LOOP
            IF need.throttle IS NOT NULL THEN
                verdict.detail := concat_ws(', ', verdict.detail, stands[need.slot - windows]);
            ELSIF need.binding AND rooms[need.slot] < need.need THEN
                nearly_empty := true;
            END IF;
        END LOOP;
        IF nearly_empty THEN
            verdict.detail := concat_ws(', ', verdict.detail, '{"kind": "budget", "remaining": 0}');
        END IF;
        verdict.detail := '[' || verdict.detail || ']';
        verdicts := verdicts || verdict;
    END LOOP;
    RETURN verdicts;
END $$;
