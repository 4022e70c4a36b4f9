-- The audit log: what was changed in the configuration, by whom, from where, from what to what. See docs/audit.md.

CREATE TABLE keys_auditevent (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor_kind text NOT NULL,
    actor_id bigint,
    actor text NOT NULL,
    address text NOT NULL,
    action text NOT NULL,
    table_name text NOT NULL,
    object text NOT NULL,
    about text NOT NULL,
    changes jsonb NOT NULL
);
CREATE INDEX keys_auditevent_object ON keys_auditevent (table_name, object, id);
CREATE INDEX keys_auditevent_about ON keys_auditevent (about, id) WHERE about <> '';
CREATE INDEX keys_auditevent_actor ON keys_auditevent (actor_kind, actor_id, id);
CREATE INDEX keys_auditevent_at ON keys_auditevent (at);

-- Names of people, and of what people own. Events refer to them by id, so that a name can be deleted without a change
-- to events.
CREATE TABLE keys_auditname (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL,
    object text NOT NULL,
    about text NOT NULL,
    column_name text NOT NULL,
    value text NOT NULL
);
CREATE INDEX keys_auditname_object ON keys_auditname (table_name, object);
CREATE INDEX keys_auditname_about ON keys_auditname (about) WHERE about <> '';

-- A seal: SHA-256 over the seal before and the events up to `last_event`. `leaves` are the events' own digests.
CREATE TABLE keys_auditseal (
    number bigint PRIMARY KEY,
    made_at timestamptz NOT NULL,
    last_event bigint NOT NULL,
    events integer NOT NULL,
    leaves bytea NOT NULL,
    digest text NOT NULL
);

CREATE FUNCTION keys_audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % of % is refused', TG_OP, TG_TABLE_NAME;
END $$;
CREATE TRIGGER keys_auditevent_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON keys_auditevent
    FOR EACH STATEMENT EXECUTE FUNCTION keys_audit_refuse_change();
CREATE TRIGGER keys_auditseal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON keys_auditseal
    FOR EACH STATEMENT EXECUTE FUNCTION keys_audit_refuse_change();
-- Names are deleted to erase them (keys/audit/erasure.py), and never changed.
CREATE TRIGGER keys_auditname_unchanged BEFORE UPDATE OR TRUNCATE ON keys_auditname
    FOR EACH STATEMENT EXECUTE FUNCTION keys_audit_refuse_change();

-- Add an event. Who acts is in the transaction's setting `bursar.actor`, as {"kind", "id", "name", "address"}
-- (keys/audit/actor.py). Without it, the database's role acts, by SQL.
CREATE FUNCTION keys_audit_note(p_action text, p_table text, p_object text, p_about text, p_changes jsonb)
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    given text := nullif(current_setting('bursar.actor', true), '');
    actor jsonb;
BEGIN
    actor := jsonb_build_object('kind', 'sql', 'name', session_user, 'address', coalesce(host(inet_client_addr()), ''));
    IF given IS NOT NULL THEN
        BEGIN
            actor := given::jsonb;
        EXCEPTION WHEN invalid_text_representation THEN
            NULL;
        END;
    END IF;
    INSERT INTO keys_auditevent (actor_kind, actor_id, actor, address, action, table_name, object, about, changes)
    VALUES (coalesce(actor->>'kind', ''), (actor->>'id')::bigint, coalesce(actor->>'name', ''),
        coalesce(actor->>'address', ''), p_action, p_table, p_object, p_about, p_changes);
END $$;

-- What an event may show of a URL: the scheme and the host. All else can contain a secret.
CREATE FUNCTION keys_audit_host(p_url text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_url = '' THEN '' ELSE coalesce(
        (SELECT m[1] || m[2] || '/…' FROM regexp_match(p_url,
            '^([A-Za-z][A-Za-z0-9+.-]{0,20}://)(?:[^/?#]*@)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?#]|$)'
        ) AS m), '…') END
$$;

-- What an event shows of a value: null, text, {"name": id} for a name, or {"secret": true}.
CREATE FUNCTION keys_audit_shown(
    p_kind text, p_value text, p_table text, p_object text, p_about text, p_column text) RETURNS jsonb
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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
    WHERE n.table_name = p_table AND n.object = p_object AND n.column_name = p_column AND n.value = p_value LIMIT 1;
    IF name IS NULL THEN
        INSERT INTO keys_auditname (table_name, object, about, column_name, value)
        VALUES (p_table, p_object, p_about, p_column, p_value) RETURNING id INTO name;
    END IF;
    RETURN jsonb_build_object('name', name);
END $$;

-- The trigger of every table that is watched. Its arguments: first the tables that a row belongs to, as `column=table`
-- with commas between them, of which the first that isn't null counts; then the columns of its allow-list, as
-- `kind column`. No other column's value can become a part of an event.
CREATE FUNCTION keys_audit_record() RETURNS trigger LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT
AS $$
DECLARE
    old_row jsonb := '{}';
    new_row jsonb := '{}';
    is_there jsonb;
    v_object text;
    v_about text := '';
    belongs text;
    kind text;
    name text;
    change jsonb;
    changes jsonb := '{}';
    action text := CASE TG_OP WHEN 'INSERT' THEN 'added' WHEN 'UPDATE' THEN 'changed' WHEN 'DELETE' THEN 'deleted'
        ELSE 'emptied' END;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM keys_audit_note(action, TG_TABLE_NAME, '', '', '{}');
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
        IF v_about = '' AND is_there->>split_part(belongs, '=', 1) IS NOT NULL THEN
            v_about := split_part(belongs, '=', 2) || ':' || (is_there->>split_part(belongs, '=', 1));
        END IF;
    END LOOP;
    FOR i IN 1 .. TG_NARGS - 1 LOOP
        kind := split_part(TG_ARGV[i], ' ', 1);
        name := split_part(TG_ARGV[i], ' ', 2);
        CONTINUE WHEN old_row->>name IS NOT DISTINCT FROM new_row->>name;
        change := '{}';
        IF TG_OP <> 'INSERT' THEN
            change := jsonb_build_object('from',
                keys_audit_shown(kind, old_row->>name, TG_TABLE_NAME, v_object, v_about, name));
        END IF;
        IF TG_OP <> 'DELETE' THEN
            change := change || jsonb_build_object('to',
                keys_audit_shown(kind, new_row->>name, TG_TABLE_NAME, v_object, v_about, name));
        END IF;
        changes := changes || jsonb_build_object(name, change);
    END LOOP;
    PERFORM keys_audit_note(action, TG_TABLE_NAME, v_object, v_about, changes);
    RETURN NULL;
END $$;

-- Watch a table: p_columns are its allow-list, as `kind column` (kinds: plain, name, contact, url, secret). Updates of
-- other columns don't fire the trigger. To change the type of a watched column, or the list, stop watching first.
CREATE FUNCTION keys_audit_watch(p_table text, p_belongs text, VARIADIC p_columns text[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    columns text[];
    arguments text;
    list text;
BEGIN
    SELECT array_agg(split_part(c, ' ', 2) ORDER BY n), string_agg(quote_literal(c), ', ' ORDER BY n)
    INTO columns, arguments FROM unnest('{plain id}'::text[] || p_columns) WITH ORDINALITY AS given (c, n);
    arguments := quote_literal(p_belongs) || ', ' || arguments;
    SELECT string_agg(quote_ident(c), ', ') INTO list FROM unnest(columns) AS c;
    EXECUTE format('CREATE TRIGGER keys_audit_rows AFTER INSERT OR DELETE ON %I FOR EACH ROW '
        'EXECUTE FUNCTION keys_audit_record(%s)', p_table, arguments);
    EXECUTE format('CREATE TRIGGER keys_audit_changes AFTER UPDATE OF %s ON %I FOR EACH ROW WHEN (%s) '
        'EXECUTE FUNCTION keys_audit_record(%s)', list, p_table,
        (SELECT string_agg(format('OLD.%I IS DISTINCT FROM NEW.%I', c, c), ' OR ') FROM unnest(columns) AS c),
        arguments);
    EXECUTE format('CREATE TRIGGER keys_audit_emptied AFTER TRUNCATE ON %I FOR EACH STATEMENT '
        'EXECUTE FUNCTION keys_audit_record()', p_table);
END $$;
CREATE FUNCTION keys_audit_unwatch(p_table text) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    EXECUTE format('DROP TRIGGER keys_audit_rows ON %I; DROP TRIGGER keys_audit_changes ON %I; '
        'DROP TRIGGER keys_audit_emptied ON %I', p_table, p_table, p_table);
END $$;
