-- A restored copy stays paused, whoever resumes the gateway on a page, until `manage.py restore --activate`.

CREATE FUNCTION usage_keep_copy_paused() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM usage_restoredcopy) THEN
        NEW.paused := true;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER usage_keep_copy_paused BEFORE UPDATE OF paused ON keys_gateway
FOR EACH ROW WHEN (OLD.paused AND NOT NEW.paused) EXECUTE FUNCTION usage_keep_copy_paused();
