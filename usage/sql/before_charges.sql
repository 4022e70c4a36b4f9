-- What charges.sql changes, as it was: to migrate backwards.

DROP TRIGGER usage_ledgerentry_overrun ON usage_ledgerentry;
DROP TRIGGER usage_adjustment_overrun ON usage_adjustment;

CREATE OR REPLACE FUNCTION usage_count_adjustments() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    changes usage_change[];
BEGIN
    SELECT array_agg(ROW(c.budget, c.start, c.amount, 0)::usage_change) INTO changes
    FROM added a JOIN usage_ledgerentry e ON e.id = a.entry_id,
    LATERAL unnest(usage_spent(
        e.charges, a.cost, usage_tokens(a.input_tokens, a.output_tokens, a.cache_read_input_tokens,
            a.cache_creation_5m_input_tokens, a.cache_creation_1h_input_tokens))) AS c
    WHERE a.reason <> 'late_settlement';
    PERFORM usage_move(changes, NULL);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION usage_note_overrun() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM usage_overran(NEW.id, NEW.virtual_key_id, NEW.cost, NEW.held);
    RETURN NULL;
END $$;
CREATE TRIGGER usage_ledgerentry_overrun AFTER INSERT ON usage_ledgerentry FOR EACH ROW
    WHEN (NEW.cost > NEW.held AND NEW.held > 0) EXECUTE FUNCTION usage_note_overrun();

CREATE OR REPLACE FUNCTION usage_note_late_overrun() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM usage_overran(e.id, e.virtual_key_id, e.cost + NEW.cost, e.held)
    FROM usage_ledgerentry e WHERE e.id = NEW.entry_id AND e.cost + NEW.cost > e.held;
    RETURN NULL;
END $$;
CREATE TRIGGER usage_adjustment_overrun AFTER INSERT ON usage_adjustment FOR EACH ROW
    WHEN (NEW.reason = 'late_settlement' AND NEW.cost > 0) EXECUTE FUNCTION usage_note_late_overrun();

ALTER TABLE usage_ledgerentry DROP COLUMN charge;
