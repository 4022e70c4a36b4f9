"""What providers list, kept here; triggers see to it that a change of it reaches every process, and that a changed
provider key is asked for anew."""

from __future__ import annotations

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

FORWARD = """
ALTER TABLE keys_modellist ADD CONSTRAINT keys_modellist_provider_key
    FOREIGN KEY (provider_key_id) REFERENCES keys_providerkey ON DELETE CASCADE;

CREATE TRIGGER keys_modellist_came_or_went AFTER INSERT OR DELETE ON keys_modellist
    FOR EACH ROW EXECUTE FUNCTION keys_touch_catalogue();
CREATE TRIGGER keys_modellist_revision AFTER UPDATE ON keys_modellist
    FOR EACH ROW WHEN (OLD.listed IS DISTINCT FROM NEW.listed) EXECUTE FUNCTION keys_touch_catalogue();

CREATE FUNCTION keys_ask_for_models() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The gateway's row before a list's, as everybody: two that wait for each other would both lose.
    PERFORM 1 FROM keys_gateway FOR UPDATE;
    IF (OLD.provider, OLD.base_url) IS DISTINCT FROM (NEW.provider, NEW.base_url) THEN
        DELETE FROM keys_modellist WHERE provider_key_id = NEW.id;
    ELSE
        UPDATE keys_modellist SET asked_at = NULL WHERE provider_key_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_providerkey_models AFTER UPDATE ON keys_providerkey FOR EACH ROW
    WHEN ((OLD.provider, OLD.base_url, OLD.secret_ciphertext, OLD.active)
        IS DISTINCT FROM (NEW.provider, NEW.base_url, NEW.secret_ciphertext, NEW.active))
    EXECUTE FUNCTION keys_ask_for_models();
"""

BACKWARD = """
DROP TRIGGER keys_providerkey_models ON keys_providerkey;
DROP FUNCTION keys_ask_for_models;
DROP TRIGGER keys_modellist_revision ON keys_modellist;
DROP TRIGGER keys_modellist_came_or_went ON keys_modellist;
ALTER TABLE keys_modellist DROP CONSTRAINT keys_modellist_provider_key;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0003_gateway_token")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="ModelList",
            fields=[
                (
                    "provider_key",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="model_list",
                        serialize=False,
                        to="keys.providerkey",
                    ),
                ),
                ("listed", models.JSONField(default=list)),
                ("asked_at", models.DateTimeField(null=True)),
                ("listed_at", models.DateTimeField(null=True)),
                (
                    "problem",
                    models.CharField(blank=True, help_text="Why the last question had no answer.", max_length=200),
                ),
            ],
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
