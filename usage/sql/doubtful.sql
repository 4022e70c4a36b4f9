-- Usage that can't be true, as a ledger row's flag says: somebody has to look at the provider. The alert is written with
-- the row, so that neither a broker nor a process that dies loses it; one an hour for each provider key. No call waits
-- for another's alert: where one is being written, there is no need for a second.

CREATE FUNCTION usage_tell_of_doubtful() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    hour timestamptz := date_trunc('hour', usage_now(), 'UTC');
BEGIN
    IF NOT EXISTS (
        SELECT FROM usage_alert
        WHERE provider_key_id = NEW.provider_key_id AND start = hour AND http_status IS NULL
    ) AND pg_try_advisory_xact_lock(hashtext('usage_tell_of_doubtful'), hashint8(NEW.provider_key_id)) THEN
        INSERT INTO usage_alert (provider_key_id, start, threshold, spent, amount, at)
        VALUES (NEW.provider_key_id, hour, 0, 0, 0, usage_now())
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER usage_ledgerentry_doubtful AFTER INSERT ON usage_ledgerentry FOR EACH ROW
    WHEN (NEW.price_flag = 'doubtful_usage' AND NEW.provider_key_id IS NOT NULL)
    EXECUTE FUNCTION usage_tell_of_doubtful();
