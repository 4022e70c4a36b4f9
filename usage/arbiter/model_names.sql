-- Which model a name means, and which names a pattern stands for: the twin of keys/model_names.py, function by
-- function. lower() by the collation C folds ASCII alone, whatever the database's locale is.
CREATE FUNCTION usage_model_identity(p_name text) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
DECLARE
    name text := lower(p_name COLLATE "C");
    own text;
    path text;
    shorter text;
BEGIN
    IF length(name) > 200 THEN
        RETURN name;
    END IF;
    IF position('/' IN name) > 0 THEN
        name := regexp_replace(name, '(^|/)(?:arn:.*/|(?:projects|publishers|accounts|models)/(?:.*/)?)', '\1');
        own := usage_own_name(name);
        path := left(name, length(name) - length(own));
    ELSE
        own := name;
        path := '';
    END IF;
    -- Most calls are of names that mean themselves.
    IF own ~ '^claude-[a-z]+-[0-9]+(-[0-9]+)*$' THEN
        RETURN path || regexp_replace(own, '-([0-9]{4})-([0-9]{2})-([0-9]{2})$', '-\1\2\3');
    END IF;
    own := regexp_replace(own, '^(?:.*(?:[.:]|--))?(?:databricks-)?claude-', 'claude-');
    IF NOT starts_with(own, 'claude-') THEN
        RETURN name;
    END IF;
    own := translate(split_part(split_part(own, ':', 1), '[', 1), '.@', '--');
    shorter := regexp_replace(own, '(?:-v[0-9]+|-latest|-default)+(?=(?:-[0-9]{8})?$)', '');
    IF shorter ~ '[0-9]' THEN
        own := shorter;
    END IF;
    own := regexp_replace(own, '-([0-9]{4})-([0-9]{2})-([0-9]{2})$', '-\1\2\3');
    RETURN path || regexp_replace(
        own, '^claude-([0-9]{1,2})((?:-[0-9]{1,2})?)-([a-z]+)(?=-|$)', 'claude-\3-\1\2');
END $$;

CREATE FUNCTION usage_own_name(p_meant text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT regexp_replace(p_meant, '^.*/', '')
$$;

CREATE FUNCTION usage_model_names(p_meant text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
DECLARE
    own text := p_meant;
    other text;
    parts text[];
    version text;
BEGIN
    IF position('/' IN p_meant) > 0 THEN
        own := usage_own_name(p_meant);
    END IF;
    IF own ~ '^claude-[a-z]+-[0-9]{1,2}(-|$)' THEN
        -- By its parts, for a regular expression that keeps what it finds takes far longer.
        parts := string_to_array(own, '-');
        version := parts[3];
        IF parts[4] ~ '^[0-9]{1,2}$' THEN
            version := version || '-' || parts[4];
        END IF;
        other := 'claude-' || version || '-' || parts[2] || substr(own, 9 + length(parts[2]) + length(version));
    ELSIF starts_with(own, 'claude-') THEN
        other := own;
    ELSE
        other := split_part(own, ':', 1);
    END IF;
    IF own = p_meant THEN
        RETURN CASE WHEN other = own THEN ARRAY[own] ELSE ARRAY[own, other] END;
    ELSIF other = own THEN
        RETURN ARRAY[p_meant, own];
    END IF;
    RETURN ARRAY[p_meant, own, left(p_meant, length(p_meant) - length(own)) || other, other];
END $$;

-- What undated() takes away: a date, and of a Claude the -0 before it.
CREATE FUNCTION usage_ending(p_meant text) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
BEGIN
    RETURN substring(p_meant FROM CASE WHEN p_meant ~ '(^|/)claude-[^/]*$'
        THEN '((?:-0)?(?:-[0-9]{8})?)$' ELSE '((?:-[0-9]{4}-[0-9]{2}-[0-9]{2})?)$' END);
END $$;

CREATE FUNCTION usage_same_model(p_one text, p_other text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
DECLARE
    one text;
    other text;
BEGIN
    IF p_one = p_other THEN
        RETURN true;
    -- Most names have no ending.
    ELSIF right(p_one, 9) !~ '(-0|-[0-9]{8}|-[0-9]{2}-[0-9]{2})$'
            AND right(p_other, 9) !~ '(-0|-[0-9]{8}|-[0-9]{2}-[0-9]{2})$' THEN
        RETURN false;
    END IF;
    one := usage_ending(p_one);
    other := usage_ending(p_other);
    IF left(p_one, length(p_one) - length(one)) <> left(p_other, length(p_other) - length(other)) THEN
        RETURN false;
    END IF;
    one := regexp_replace(one, '^-0(?=-|$)', '');
    other := regexp_replace(other, '^-0(?=-|$)', '');
    RETURN one = '' OR other = '' OR one = other;
END $$;

CREATE FUNCTION usage_like(p_pattern text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT replace(replace(replace(replace(p_pattern, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')
$$;

-- The twin of keys.patterns.catches, for any of several patterns.
CREATE FUNCTION usage_matches(p_patterns text[], p_model text)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    called text := lower(p_model COLLATE "C");
    pattern text;
    names text[];
    name text;
    at integer;
BEGIN
    FOREACH pattern IN ARRAY p_patterns LOOP
        pattern := lower(pattern COLLATE "C");
        IF called LIKE usage_like(pattern) THEN
            RETURN true;
        END IF;
        IF names IS NULL THEN
            names := usage_model_names(usage_model_identity(p_model));
        END IF;
        IF position('*' IN pattern) = 0 THEN
            pattern := usage_model_identity(pattern);
            FOREACH name IN ARRAY names LOOP
                IF usage_same_model(pattern, name) THEN
                    RETURN true;
                END IF;
            END LOOP;
        ELSE
            pattern := regexp_replace(pattern, '(^|/)anthropic(?:\.|--)claude', '\1claude');
            at := position('claude' IN pattern);
            IF at > 0 THEN
                pattern := left(pattern, at - 1) || translate(substr(pattern, at), '.@', '--');
            END IF;
            pattern := usage_like(pattern);
            FOREACH name IN ARRAY names LOOP
                IF name LIKE pattern THEN
                    RETURN true;
                END IF;
            END LOOP;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- The names of one of a call's models, of its shares: the one that it is called by, and what else it may be or mean.
CREATE FUNCTION usage_matches_share(p_patterns text[], p_model text, p_share jsonb)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN usage_matches(p_patterns, p_model) OR EXISTS (
        SELECT FROM jsonb_array_elements_text(p_share -> 'also') AS other WHERE usage_matches(p_patterns, other));
END $$;

CREATE FUNCTION usage_matches(p_patterns text[], p_model text, p_shares jsonb)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF p_shares IS NULL THEN
        RETURN usage_matches(p_patterns, p_model);
    END IF;
    RETURN EXISTS (
        SELECT FROM jsonb_each(p_shares) AS s (model, share) WHERE usage_matches_share(p_patterns, model, share));
END $$;

CREATE FUNCTION usage_share(p_patterns text[], p_shares jsonb, p_tokens boolean)
RETURNS numeric LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (
        SELECT sum((share ->> CASE WHEN p_tokens THEN 'tokens' ELSE 'ceiling' END)::numeric(30, 12))
        FROM jsonb_each(p_shares) AS s (model, share) WHERE usage_matches_share(p_patterns, model, share));
END $$;
