-- Two functions of audit.sql, for statements that change very many rows. Events stay the same.

-- What an event shows of a value: null, text, {"name": id} for a name, or {"secret": true}.
--
-- A trigger's TG_TABLE_NAME has the collation "C", and so has all that is compared with it, unless the comparison says
-- otherwise. The index has the database's collation. The planner never scans the table, not even with the statistics
-- of an empty table: the transaction that fills the table keeps its plans.
CREATE OR REPLACE FUNCTION keys_audit_shown(
    p_kind text, p_value text, p_table text, p_object text, p_about text, p_column text) RETURNS jsonb
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    name bigint;
BEGIN
    IF p_value IS NULL THEN
        RETURN 'null';
    END IF;
    IF p_kind = 'plain' THEN
        RETURN to_jsonb(p_value);
    END IF;
    IF p_kind = 'url' OR p_kind = 'contact' AND p_value !~ '^[^@/:?#\s]+@[A-Za-z0-9.-]+$' THEN
        RETURN to_jsonb(keys_audit_host(p_value));
    END IF;
    IF p_kind NOT IN ('name', 'contact') THEN
        RETURN '{"secret": true}';
    END IF;
    IF p_value = '' THEN
        RETURN '""';
    END IF;
    SELECT id INTO name FROM keys_auditname n
    WHERE n.table_name = p_table COLLATE "default" AND n.object = p_object COLLATE "default"
        AND n.column_name = p_column COLLATE "default" AND n.value = p_value COLLATE "default"
    LIMIT 1;
    IF name IS NULL THEN
        INSERT INTO keys_auditname (table_name, object, about, column_name, value)
        VALUES (p_table, p_object, p_about, p_column, p_value) RETURNING id INTO name;
    END IF;
    RETURN jsonb_build_object('name', name);
END $$;

-- The trigger of every table that is watched: see audit.sql. Plain values need no call of keys_audit_shown.
CREATE OR REPLACE FUNCTION keys_audit_record() RETURNS trigger
LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
    old_row jsonb := '{}';
    new_row jsonb := '{}';
    is_there jsonb;
    v_table text := TG_TABLE_NAME;
    v_object text;
    v_about text := '';
    v_owner text;
    belongs text;
    kind text;
    name text;
    v_from text;
    v_to text;
    changes jsonb := '{}';
    action text := CASE TG_OP WHEN 'INSERT' THEN 'added' WHEN 'UPDATE' THEN 'changed' WHEN 'DELETE' THEN 'deleted'
        ELSE 'emptied' END;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM keys_audit_note(action, v_table, '', '', '{}');
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        old_row := to_jsonb(OLD);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        new_row := to_jsonb(NEW);
    END IF;
    is_there := CASE TG_OP WHEN 'INSERT' THEN new_row ELSE old_row END;
    v_object := is_there->>'id';
    FOREACH belongs IN ARRAY string_to_array(TG_ARGV[0], ',') LOOP
        v_owner := is_there->>split_part(belongs, '=', 1);
        IF v_owner IS NOT NULL THEN
            v_about := split_part(belongs, '=', 2) || ':' || v_owner;
            EXIT;
        END IF;
    END LOOP;
    FOR i IN 1 .. TG_NARGS - 1 LOOP
        name := split_part(TG_ARGV[i], ' ', 2);
        v_from := old_row->>name;
        v_to := new_row->>name;
        CONTINUE WHEN v_from IS NOT DISTINCT FROM v_to;
        kind := split_part(TG_ARGV[i], ' ', 1);
        IF kind = 'plain' THEN
            changes := changes || jsonb_build_object(name, CASE TG_OP
                WHEN 'INSERT' THEN jsonb_build_object('to', v_to)
                WHEN 'DELETE' THEN jsonb_build_object('from', v_from)
                ELSE jsonb_build_object('from', v_from, 'to', v_to) END);
        ELSE
            changes := changes || jsonb_build_object(name, CASE TG_OP
                WHEN 'INSERT' THEN jsonb_build_object(
                    'to', keys_audit_shown(kind, v_to, v_table, v_object, v_about, name))
                WHEN 'DELETE' THEN jsonb_build_object(
                    'from', keys_audit_shown(kind, v_from, v_table, v_object, v_about, name))
                ELSE jsonb_build_object(
                    'from', keys_audit_shown(kind, v_from, v_table, v_object, v_about, name),
                    'to', keys_audit_shown(kind, v_to, v_table, v_object, v_about, name)) END);
        END IF;
    END LOOP;
    PERFORM keys_audit_note(action, v_table, v_object, v_about, changes);
    RETURN NULL;
END $$;
