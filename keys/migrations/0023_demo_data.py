"""The mark of demo data, which stays for good and keeps providers' secrets out, and which the audit log watches."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models
from django.db.models.functions import Now

from keys.audit.watched import Watched, unwatch, watch

MARK = {"keys_demodata": Watched(plain="options made_at finished_at")}
FORWARD = """
CREATE FUNCTION keys_keep_demo_mark() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM keys_demodata) THEN
        RAISE EXCEPTION 'a deployment with demo data stays one: make a new database for real calls'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_demodata_kept BEFORE DELETE OR TRUNCATE ON keys_demodata
    FOR EACH STATEMENT EXECUTE FUNCTION keys_keep_demo_mark();

-- Each change of a provider key updates the row of the gateway, which generate_usage locks before it looks for secrets.
CREATE FUNCTION keys_refuse_secret_in_demo() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM keys_gateway FOR UPDATE;
    IF EXISTS (SELECT FROM keys_demodata) THEN
        RAISE EXCEPTION 'this deployment has demo data, so it takes no provider''s secret'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_providerkey_real BEFORE INSERT OR UPDATE OF secret_ciphertext ON keys_providerkey
    FOR EACH ROW WHEN (NEW.secret_ciphertext <> '') EXECUTE FUNCTION keys_refuse_secret_in_demo();
"""
BACKWARD = """
DROP TRIGGER keys_providerkey_real ON keys_providerkey;
DROP TRIGGER keys_demodata_kept ON keys_demodata;
DROP FUNCTION keys_refuse_secret_in_demo, keys_keep_demo_mark;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0022_key_search")]

    operations: ClassVar = [
        migrations.CreateModel(
            name="DemoData",
            fields=[
                ("id", models.SmallIntegerField(db_default=1, default=1, primary_key=True, serialize=False)),
                ("options", models.JSONField()),
                ("parts", models.IntegerField(db_default=0, default=0)),
                ("made_at", models.DateTimeField(db_default=Now())),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={"verbose_name": "demo data", "verbose_name_plural": "demo data", "default_permissions": ()},
        ),
        migrations.AddConstraint(
            "demodata", models.CheckConstraint(condition=models.Q(id=1), name="keys_demodata_once")
        ),
        migrations.RunSQL(watch(MARK), unwatch(MARK)),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
