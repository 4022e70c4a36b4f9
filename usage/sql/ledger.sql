-- The ledger: partitioned by month over the UUIDv7 of a call's admission. See usage.models.LedgerEntry.

CREATE TABLE usage_ledgerentry (
    id uuid PRIMARY KEY,
    admitted_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
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
    cost numeric(30, 12) NOT NULL,
    currency text NOT NULL,
    price_version text NOT NULL,
    price_flag text NOT NULL,
    estimated boolean NOT NULL,
    held numeric(30, 12) NOT NULL,
    time_to_first_byte_ms integer,
    duration_ms integer NOT NULL,
    attempts jsonb NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
) PARTITION BY RANGE (id);

CREATE INDEX usage_ledgerentry_xid ON usage_ledgerentry (xid);
CREATE INDEX usage_ledgerentry_virtual_key ON usage_ledgerentry (virtual_key_id, id);
CREATE INDEX usage_ledgerentry_provider_request ON usage_ledgerentry (provider_request_id)
    WHERE provider_request_id <> '';
CREATE INDEX usage_ledgerentry_admitted ON usage_ledgerentry USING brin (admitted_at);

-- Should a month's partition be missing, or a clock be wrong, the row is kept all the same.
CREATE TABLE usage_ledgerentry_other PARTITION OF usage_ledgerentry DEFAULT;

CREATE FUNCTION usage_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: what turned out differently is an adjustment';
END $$;
CREATE TRIGGER usage_ledgerentry_append_only BEFORE UPDATE OR DELETE ON usage_ledgerentry
    FOR EACH ROW EXECUTE FUNCTION usage_refuse_change();
CREATE TRIGGER usage_adjustment_append_only BEFORE UPDATE OR DELETE ON usage_adjustment
    FOR EACH ROW EXECUTE FUNCTION usage_refuse_change();

ALTER TABLE usage_adjustment ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
CREATE INDEX usage_adjustment_xid ON usage_adjustment (xid);
CREATE INDEX usage_adjustment_entry ON usage_adjustment (entry_id);

-- The lowest UUIDv7 of a moment.
CREATE FUNCTION usage_first_id(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Make the partitions of this month and the following ones; returns how many are new.
CREATE FUNCTION usage_make_partitions(ahead integer) RETURNS integer LANGUAGE plpgsql SET timezone = 'UTC' AS $$
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
SELECT usage_make_partitions(12);

-- Rows that live for a second and counters that change all the time.
ALTER TABLE usage_hold SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE usage_writer SET (fillfactor = 10, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
ALTER TABLE usage_process SET (fillfactor = 10, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
INSERT INTO usage_rollupstate (id, xid) VALUES (1, '0');
