"""What came of trying provider keys; a trigger sees to it that it is forgotten where the secret or address changes."""

from __future__ import annotations

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

FORWARD = """
ALTER TABLE keys_providerkeycheck ADD CONSTRAINT keys_providerkeycheck_provider_key
    FOREIGN KEY (provider_key_id) REFERENCES keys_providerkey ON DELETE CASCADE;

CREATE FUNCTION keys_forget_check() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM keys_providerkeycheck WHERE provider_key_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_providerkey_check AFTER UPDATE ON keys_providerkey FOR EACH ROW
    WHEN ((OLD.provider, OLD.base_url, OLD.secret_ciphertext, OLD.region, OLD.project)
        IS DISTINCT FROM (NEW.provider, NEW.base_url, NEW.secret_ciphertext, NEW.region, NEW.project))
    EXECUTE FUNCTION keys_forget_check();
"""

BACKWARD = """
DROP TRIGGER keys_providerkey_check ON keys_providerkey;
DROP FUNCTION keys_forget_check;
ALTER TABLE keys_providerkeycheck DROP CONSTRAINT keys_providerkeycheck_provider_key;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0011_provider_kinds")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="ProviderKeyCheck",
            fields=[
                (
                    "provider_key",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="last_check",
                        serialize=False,
                        to="keys.providerkey",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("works", "works"),
                            ("refused", "refused"),
                            ("unreachable", "can't be reached"),
                            ("answered", "answered"),
                        ],
                        max_length=20,
                    ),
                ),
                ("http_status", models.PositiveSmallIntegerField(null=True)),
                ("message", models.CharField(blank=True, max_length=300)),
                ("checked_at", models.DateTimeField()),
            ],
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
