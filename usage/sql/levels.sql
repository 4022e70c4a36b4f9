-- Sums of roll-ups by levels of dimensions and time: see usage/levels.py. Each level has a partition of its own, so that
-- reading one doesn't read the others' pages.

CREATE TABLE usage_levelsum (
    level text NOT NULL,
    bucket timestamptz NOT NULL,
    customer_id bigint,
    team_id bigint,
    virtual_key_id bigint,
    provider_key_id bigint,
    model text,
    status text,
    provider text,
    service_tier text,
    speed text,
    stream boolean,
    cost_centre text,
    project text,
    calls bigint NOT NULL,
    estimated_calls bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    thinking_tokens bigint NOT NULL,
    cache_read_input_tokens bigint NOT NULL,
    cache_creation_5m_input_tokens bigint NOT NULL,
    cache_creation_1h_input_tokens bigint NOT NULL,
    web_search_requests bigint NOT NULL,
    cost numeric(30, 12) NOT NULL,
    charge numeric(30, 12) NOT NULL,
    unpriced_calls bigint NOT NULL,
    our_errors bigint NOT NULL,
    caller_errors bigint NOT NULL,
    provider_errors bigint NOT NULL,
    timed_calls bigint NOT NULL,
    duration_ms bigint NOT NULL,
    first_byte_ms bigint NOT NULL,
    estimated_cost numeric(30, 12) NOT NULL,
    estimated_charge numeric(30, 12) NOT NULL,
    unpriced_cost numeric(30, 12) NOT NULL,
    unpriced_charge numeric(30, 12) NOT NULL,
    cost_split numeric(30, 12)[],
    charge_split numeric(30, 12)[],
    durations bigint[],
    first_bytes bigint[]
) PARTITION BY LIST (level);

CREATE UNIQUE INDEX usage_levelsum_cell ON usage_levelsum (
    level, bucket, customer_id, team_id, virtual_key_id, provider_key_id, model, status, provider, service_tier, speed,
    stream, cost_centre, project) NULLS NOT DISTINCT;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'key_day', 'key_month', 'caller_day', 'caller_month', 'group_hour', 'group_day', 'group_month', 'owner_hour',
        'owner_day', 'owner_month', 'total_quarter', 'total_hour', 'total_day', 'total_month', 'model_quarter',
        'model_hour', 'model_day', 'model_month'
    ] LOOP
        -- Rows of the current day and month change with every roll-up.
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF usage_levelsum FOR VALUES IN (%L) WITH (fillfactor = 85)',
            'usage_levelsum_' || name, name);
    END LOOP;
    -- Whose calls they are, where there are many.
    FOREACH name IN ARRAY ARRAY['key_day', 'key_month', 'caller_day', 'caller_month'] LOOP
        EXECUTE format('CREATE INDEX ON %I (virtual_key_id, bucket)', 'usage_levelsum_' || name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY[
        'key_day', 'key_month', 'caller_day', 'caller_month', 'group_hour', 'group_day', 'group_month', 'owner_hour',
        'owner_day', 'owner_month'
    ] LOOP
        EXECUTE format('CREATE INDEX ON %I (customer_id, bucket)', 'usage_levelsum_' || name);
        EXECUTE format('CREATE INDEX ON %I (team_id, bucket)', 'usage_levelsum_' || name);
    END LOOP;
END $$;
