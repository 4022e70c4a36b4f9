-- Calls that came to more than was held for them, which nobody could see in their requests. They are settled in full;
-- here they are noted, so that somebody hears of it (usage.overruns) and can count them (usage.metrics). A call that
-- stays within its hold costs one comparison. Rows are only added, so that no call waits for another's.

-- Note it once for a call; what a batch is over by comes in portions, which add up.
CREATE FUNCTION usage_overran(p_call uuid, p_virtual_key bigint, p_cost numeric, p_held numeric)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO usage_overrun (call, at, virtual_key_id, cost, held, told)
    VALUES (p_call, usage_now(), p_virtual_key, p_cost, p_held, false)
    ON CONFLICT (call) DO UPDATE SET cost = usage_overrun.cost + excluded.cost, held = usage_overrun.held + excluded.held
$$;

CREATE FUNCTION usage_note_overrun() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM usage_overran(NEW.id, NEW.virtual_key_id, NEW.cost, NEW.held);
    RETURN NULL;
END $$;
-- Lines of a batch have no hold of their own: usage_settle_parts knows the batch's.
CREATE TRIGGER usage_ledgerentry_overrun AFTER INSERT ON usage_ledgerentry FOR EACH ROW
    WHEN (NEW.cost > NEW.held AND NEW.held > 0) EXECUTE FUNCTION usage_note_overrun();

CREATE FUNCTION usage_note_late_overrun() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM usage_overran(e.id, e.virtual_key_id, e.cost + NEW.cost, e.held)
    FROM usage_ledgerentry e WHERE e.id = NEW.entry_id AND e.cost + NEW.cost > e.held;
    RETURN NULL;
END $$;
CREATE TRIGGER usage_adjustment_overrun AFTER INSERT ON usage_adjustment FOR EACH ROW
    WHEN (NEW.reason = 'late_settlement' AND NEW.cost > 0) EXECUTE FUNCTION usage_note_late_overrun();
