-- What is closed stays as it is: closings, covers, documents, lines and files are only added.

CREATE FUNCTION billing_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a closed month is never edited: % of % is refused', TG_OP, TG_TABLE_NAME;
END $$;

CREATE TRIGGER billing_closing_closed BEFORE UPDATE OR DELETE ON billing_closing
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER billing_cover_closed BEFORE UPDATE OR DELETE ON billing_cover
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER billing_statement_closed BEFORE UPDATE OR DELETE ON billing_statement
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER billing_statementline_closed BEFORE UPDATE OR DELETE ON billing_statementline
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER billing_statementfile_closed BEFORE UPDATE OR DELETE ON billing_statementfile
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();

-- An issuer that has issued a document keeps its prefix, and its numbers grow by one.
CREATE FUNCTION billing_keep_numbers() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM billing_statement s WHERE s.issuer_id = OLD.id) THEN
        RETURN NEW;
    END IF;
    IF NEW.prefix <> OLD.prefix THEN
        RAISE EXCEPTION 'the issuer has issued documents: its prefix stays %', OLD.prefix
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.next_number NOT IN (OLD.next_number, OLD.next_number + 1)
        OR NEW.next_credit_number NOT IN (OLD.next_credit_number, OLD.next_credit_number + 1) THEN
        RAISE EXCEPTION 'the issuer has issued documents: its numbers have no gap'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER billing_issuer_numbers BEFORE UPDATE ON billing_issuer
    FOR EACH ROW EXECUTE FUNCTION billing_keep_numbers();
