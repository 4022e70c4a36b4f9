-- Provider keys whose key or account their provider refuses: somebody has to see to it. The alert is written with the
-- cool-down that takes the provider key out, so that neither a broker nor a process that dies loses it; one an hour for
-- each provider key.

CREATE FUNCTION usage_tell_of_refused() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_alert (provider_key_id, start, threshold, spent, amount, http_status, at)
    VALUES (NEW.provider_key_id, date_trunc('hour', usage_now(), 'UTC'), 0, 0, 0, NEW.http_status, usage_now())
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER usage_cooldown_refused AFTER INSERT ON keys_cooldown FOR EACH ROW
    WHEN (NEW.reason = 'refused') EXECUTE FUNCTION usage_tell_of_refused();
CREATE TRIGGER usage_cooldown_refused_again AFTER UPDATE ON keys_cooldown FOR EACH ROW
    WHEN (NEW.reason = 'refused' AND NEW.strikes > OLD.strikes) EXECUTE FUNCTION usage_tell_of_refused();
