-- What the arbiter would answer about calls, and why, one by one. Read only: it locks and creates nothing, and each call
-- is judged as if it came alone. usage_group decides with the same functions.
--
-- For each of p_asked (usage_asked as JSON, in order): `bars`, what keeps the credential from calling; `until`, when a
-- cool-down of its provider key ends; `needs`, each budget and limit that applies, as usage_refusal describes it, with
-- `fits` and, for a soft budget, `binding` false; and the verdict, with the details that a caller would get.
CREATE FUNCTION usage_why(p_asked jsonb)
RETURNS TABLE (verdict text, detail text, bars text[], until timestamptz, needs json)
LANGUAGE sql STABLE
SET enable_seqscan = off SET jit = off AS $$
    WITH judged AS MATERIALIZED (
        SELECT a.number, k.virtual_key_id, k.verdict, a.insists, coalesce(usage_bars(c, v, t, u, g), '{}') AS bars,
            (SELECT max(d.until) FROM usage_cooldowns_of(a.provider_key, a.requested_model, a.shares) d) AS until,
            ARRAY(SELECT ROW(n.*)::usage_need FROM usage_needs_of(
                a.asked, v.customer_id, v.team_id, v.id, m.moment) AS n) AS needs, m.moment
        FROM (SELECT usage_now()) AS m (moment),
            LATERAL (SELECT each.value, each.ordinality FROM jsonb_array_elements(p_asked) WITH ORDINALITY AS each) e,
            LATERAL (SELECT e.ordinality AS number, p AS asked, p.*
                FROM jsonb_populate_record(NULL::usage_asked, e.value) AS p) AS a
        LEFT JOIN LATERAL usage_caller(a.credential, a.revision, a.catalogue_revision) AS k ON true
        LEFT JOIN keys_credential c ON c.id = a.credential
        LEFT JOIN keys_virtualkey v ON v.id = c.virtual_key_id
        LEFT JOIN keys_team t ON t.id = v.team_id
        LEFT JOIN keys_customer u ON u.id = v.customer_id
        LEFT JOIN keys_gateway g ON true
    ), weighed AS (
        SELECT j.*, w.needs AS described, w.blocker
        FROM judged j CROSS JOIN LATERAL (
            SELECT json_agg(s.facts || jsonb_build_object('fits', s.wait IS NULL, 'binding', s.binding)
                    ORDER BY s.number) AS needs,
                -- As in usage_decide: of those that refuse, the one that would take longest, the first of several.
                (array_agg(s.facts ORDER BY s.wait DESC, s.number) FILTER (WHERE s.wait IS NOT NULL))[1] AS blocker
            FROM (
                SELECT n.binding, n.number, w.wait,
                    usage_refusal(n.budget, n.throttle, n.need, n.room, w.wait, j.moment)::jsonb AS facts
                FROM unnest(j.needs) WITH ORDINALITY AS n (slot, budget, start, tokens, throttle, binding, need, room,
                    full_room, pace, number)
                CROSS JOIN LATERAL (SELECT usage_wait(n.binding, n.need, n.room, n.full_room, n.pace, n.throttle)
                    ) AS w (wait)
            ) AS s
        ) AS w
    )
    SELECT CASE WHEN verdict IS DISTINCT FROM 'admitted' THEN coalesce(verdict, 'unknown')
            WHEN until IS NOT NULL AND NOT coalesce(insists, false) THEN 'cooling'
            WHEN blocker ? 'budget' THEN 'budget' WHEN blocker IS NOT NULL THEN 'limit' ELSE 'admitted' END,
        CASE WHEN verdict = 'admitted' AND (until IS NULL OR insists) THEN blocker::text END,
        bars, until, coalesce(described, '[]')
    FROM weighed ORDER BY number
$$;
