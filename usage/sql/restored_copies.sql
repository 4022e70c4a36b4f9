-- Transactions as the deployment numbers them. A restored database lives on a server that counts its transactions from
-- another number than the one before. Watermarks go by these numbers, so a restoration adds what is missing
-- (usage/transaction_numbers.py), and all numbers grow on.

DO $$ BEGIN
    IF to_regprocedure('usage_xid_offset()') IS NULL THEN
        CREATE FUNCTION usage_xid_offset() RETURNS numeric LANGUAGE sql IMMUTABLE RETURN 0::numeric;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION usage_numbered(p_xid xid8) RETURNS xid8 LANGUAGE sql STABLE
RETURN (p_xid::text::numeric + usage_xid_offset())::text::xid8;
