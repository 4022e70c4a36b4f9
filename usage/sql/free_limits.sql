-- A process bounds free calls by the limits of requests and of calls at once that it read with the virtual key
-- (keys/directory.py): a change of one moves the revision of the key, or of all of a team's or customer's.

CREATE FUNCTION usage_touch_limited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE keys_virtualkey SET revision = revision WHERE id IN (OLD.virtual_key_id, NEW.virtual_key_id);
    IF coalesce(OLD.team_id, OLD.customer_id, NEW.team_id, NEW.customer_id) IS NOT NULL THEN
        UPDATE keys_gateway SET catalogue_revision = catalogue_revision + 1;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER usage_limit_revision AFTER INSERT OR UPDATE OR DELETE ON usage_limit
    FOR EACH ROW EXECUTE FUNCTION usage_touch_limited();
