-- Searches and lists of virtual keys, gateway tokens and routes. No extension is needed.

-- The words of a text: what stands between spaces, punctuation and signs, in small letters, each cut to 60 characters.
CREATE FUNCTION keys_search_words(text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN array_remove(
    regexp_split_to_array(
        regexp_replace(
            lower($1),
            '([^\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f]{60})'
                '[^\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f]+',
            '\1',
            'g'
        ),
        '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f]+'
    ),
    ''
);

-- What a virtual key is found by.
CREATE FUNCTION keys_search_vector(name text, owner text, labels jsonb) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN array_to_tsvector(keys_search_words(name || ' ' || owner || ' ' || labels::text));

-- What finds the rows that have, for each word of a text, a word that begins with it. NULL, which finds nothing, if the
-- text has no words. Quotes aren't part of words.
CREATE FUNCTION keys_search_query(text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN ('''' || array_to_string(nullif(keys_search_words($1), '{}'), ''':* & ''') || ''':*')::tsquery;

CREATE INDEX keys_virtualkey_words ON keys_virtualkey USING gin (keys_search_vector(name, owner, labels));

-- The last characters of a secret, by the last few of them.
CREATE INDEX keys_credential_end ON keys_credential (reverse(last) text_pattern_ops);

-- The list of gateway tokens, which are few of all credentials.
CREATE INDEX keys_token_list ON keys_credential (name, id DESC) WHERE kind = 'gateway_token';

-- The virtual keys of a provider key, the newest first.
CREATE INDEX keys_route_of_provider ON keys_virtualkeyroute (provider_key_id, virtual_key_id);
