DROP TRIGGER usage_checkpoint_append_only ON usage_checkpoint;
DROP TRIGGER usage_checkpointwindow_append_only ON usage_checkpointwindow;
DROP FUNCTION usage_keep_checkpoint;
DROP TRIGGER usage_adjustment_archived ON usage_adjustment;
DROP FUNCTION usage_refuse_archived;
CREATE OR REPLACE FUNCTION usage_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: what turned out differently is an adjustment';
END $$;
DROP FUNCTION usage_only_labels_less;
