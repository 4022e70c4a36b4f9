"""Triggers that move the revisions, so that no way of changing a row can forget to."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations

FORWARD = """
INSERT INTO keys_gateway (id, paused, catalogue_revision) VALUES (1, false, 1);

CREATE FUNCTION keys_move_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := OLD.revision + 1;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_virtualkey_revision BEFORE UPDATE ON keys_virtualkey
    FOR EACH ROW EXECUTE FUNCTION keys_move_revision();

CREATE FUNCTION keys_touch_virtual_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE keys_virtualkey SET revision = revision WHERE id = OLD.virtual_key_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE keys_virtualkey SET revision = revision WHERE id = NEW.virtual_key_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_virtualkeyroute_revision AFTER INSERT OR UPDATE OR DELETE ON keys_virtualkeyroute
    FOR EACH ROW EXECUTE FUNCTION keys_touch_virtual_key();

CREATE FUNCTION keys_touch_catalogue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE keys_gateway SET catalogue_revision = catalogue_revision + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_providerkey_revision AFTER INSERT OR UPDATE OR DELETE ON keys_providerkey
    FOR EACH STATEMENT EXECUTE FUNCTION keys_touch_catalogue();
"""

BACKWARD = """
DROP TRIGGER keys_providerkey_revision ON keys_providerkey;
DROP TRIGGER keys_virtualkeyroute_revision ON keys_virtualkeyroute;
DROP TRIGGER keys_virtualkey_revision ON keys_virtualkey;
DROP FUNCTION keys_touch_catalogue, keys_touch_virtual_key, keys_move_revision;
DELETE FROM keys_gateway;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0001_initial")]
    operations: ClassVar = [migrations.RunSQL(FORWARD, BACKWARD)]
