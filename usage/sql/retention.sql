-- Checkpoints and archived months, and the two ways in which rows of the ledger may change: labels are taken out of
-- them, and a row moves from the default partition into that of its month. Neither can change an amount.

-- Whether the only difference is that labels are missing.
CREATE FUNCTION usage_only_labels_less(p_table text, p_old jsonb, p_new jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_table = 'usage_adjustment' THEN
        p_old - 'detail' = p_new - 'detail'
        AND (p_old -> 'detail') - 'client_labels' = (p_new -> 'detail') - 'client_labels'
        AND coalesce(p_old #> '{detail,client_labels}', '{}') @> coalesce(p_new #> '{detail,client_labels}', '{}')
    ELSE
        p_old - '{labels,client_labels}'::text[] = p_new - '{labels,client_labels}'::text[]
        AND p_old -> 'labels' @> (p_new -> 'labels')
        AND p_old -> 'client_labels' @> (p_new -> 'client_labels')
    END
$$;

-- `usage.ledger_gate` says for the rest of a transaction what it does: `erase` labels, or `move` rows to the table that
-- `usage.moved_to` names. It permits nothing else.
CREATE OR REPLACE FUNCTION usage_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    gate text := current_setting('usage.ledger_gate', true);
    copied boolean;
BEGIN
    IF gate = 'erase' AND TG_OP = 'UPDATE'
        AND (TG_TABLE_NAME = 'usage_adjustment' OR TG_TABLE_NAME LIKE 'usage\_ledgerentry\_%') THEN
        IF usage_only_labels_less(TG_TABLE_NAME, to_jsonb(OLD), to_jsonb(NEW)) THEN
            RETURN NEW;
        END IF;
    ELSIF gate = 'move' AND TG_OP = 'DELETE' AND TG_TABLE_NAME = 'usage_ledgerentry_other' THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %I.%I m WHERE m.id = $1 AND to_jsonb(m) = $2)',
            TG_TABLE_SCHEMA, current_setting('usage.moved_to', true)) INTO copied USING OLD.id, to_jsonb(OLD);
        IF copied THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the ledger is append-only: what turned out differently is an adjustment';
END $$;

-- An adjustment of a call whose row is archived would count nowhere.
CREATE FUNCTION usage_refuse_archived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- This also keeps the month from being detached before the adjustment is committed.
    IF NOT EXISTS (SELECT FROM usage_ledgerentry e WHERE e.id = NEW.entry_id) AND EXISTS (
        SELECT FROM usage_archivedmonth m
        WHERE m.state <> 'exported' AND NEW.entry_id >= m.first_id AND NEW.entry_id < m.end_id
    ) THEN
        RAISE EXCEPTION 'call % is archived: restore its month first (manage.py restore_month)', NEW.entry_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER usage_adjustment_archived BEFORE INSERT ON usage_adjustment
    FOR EACH ROW EXECUTE FUNCTION usage_refuse_archived();

CREATE FUNCTION usage_keep_checkpoint() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a checkpoint is never changed: manage.py verify_ledger --whole begins a new chain of them';
END $$;
CREATE TRIGGER usage_checkpoint_append_only BEFORE UPDATE OR DELETE ON usage_checkpoint
    FOR EACH ROW EXECUTE FUNCTION usage_keep_checkpoint();
CREATE TRIGGER usage_checkpointwindow_append_only BEFORE UPDATE OR DELETE ON usage_checkpointwindow
    FOR EACH ROW EXECUTE FUNCTION usage_keep_checkpoint();
