-- Keeps the last owner: an active person who is a superuser or has the role of an owner. Whatever would take the last
-- one away is refused: a deletion, a deactivation, a role that is taken, by pages, commands or SQL.

CREATE FUNCTION administration_keep_owner() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    person jsonb := to_jsonb(OLD);
BEGIN
    IF TG_TABLE_NAME = 'administration_grant' THEN
        IF NOT EXISTS (SELECT FROM auth_user u WHERE u.id = OLD.user_id AND u.is_active) THEN
            RETURN NULL;
        END IF;
    ELSIF NOT (person->>'is_superuser')::boolean AND NOT EXISTS (
        SELECT FROM administration_grant g WHERE g.user_id = OLD.id AND g.role = 'owner'
    ) THEN
        RETURN NULL;
    END IF;
    -- Of two transactions that each take an owner away, the second one waits, and then sees what the first one did. An
    -- older snapshot wouldn't show that.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'Owners can be taken away only in a transaction that reads what is committed.'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'administration_last_owner';
    END IF;
    PERFORM pg_advisory_xact_lock(7262047);
    IF NOT EXISTS (
        SELECT FROM auth_user u WHERE u.is_active AND (
            u.is_superuser OR EXISTS (SELECT FROM administration_grant g WHERE g.user_id = u.id AND g.role = 'owner'))
    ) THEN
        RAISE EXCEPTION 'This would take away the last owner. Make another person an owner first.'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'administration_last_owner';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER administration_last_owner AFTER DELETE ON auth_user
    FOR EACH ROW WHEN (OLD.is_active) EXECUTE FUNCTION administration_keep_owner();
CREATE TRIGGER administration_last_active_owner AFTER UPDATE OF is_active, is_superuser ON auth_user
    FOR EACH ROW WHEN (OLD.is_active AND (NOT NEW.is_active OR OLD.is_superuser AND NOT NEW.is_superuser))
    EXECUTE FUNCTION administration_keep_owner();
CREATE TRIGGER administration_last_owner AFTER DELETE ON administration_grant
    FOR EACH ROW WHEN (OLD.role = 'owner') EXECUTE FUNCTION administration_keep_owner();
CREATE TRIGGER administration_last_changed_owner AFTER UPDATE OF role, user_id ON administration_grant
    FOR EACH ROW WHEN (OLD.role = 'owner' AND (NEW.role <> 'owner' OR NEW.user_id <> OLD.user_id))
    EXECUTE FUNCTION administration_keep_owner();
