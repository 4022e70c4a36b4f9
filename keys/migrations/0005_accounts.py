"""Which organisation and workspace of its provider a provider key belongs to, as the provider's answers say."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models

FORWARD = """
CREATE FUNCTION keys_forget_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.organization_id := '';
    NEW.workspace_id := '';
    NEW.account_learned_at := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_providerkey_account BEFORE UPDATE ON keys_providerkey FOR EACH ROW
    WHEN ((OLD.provider, OLD.base_url, OLD.secret_ciphertext)
        IS DISTINCT FROM (NEW.provider, NEW.base_url, NEW.secret_ciphertext))
    EXECUTE FUNCTION keys_forget_account();

-- By row: a statement that finds nothing to change must not have every process read the catalogue anew.
DROP TRIGGER keys_providerkey_revision ON keys_providerkey;
CREATE TRIGGER keys_providerkey_revision AFTER INSERT OR UPDATE OR DELETE ON keys_providerkey
    FOR EACH ROW EXECUTE FUNCTION keys_touch_catalogue();
"""

BACKWARD = """
DROP TRIGGER keys_providerkey_revision ON keys_providerkey;
CREATE TRIGGER keys_providerkey_revision AFTER INSERT OR UPDATE OR DELETE ON keys_providerkey
    FOR EACH STATEMENT EXECUTE FUNCTION keys_touch_catalogue();
DROP TRIGGER keys_providerkey_account ON keys_providerkey;
DROP FUNCTION keys_forget_account;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0004_model_lists")]
    operations: ClassVar = [
        migrations.AddField(
            "providerkey",
            "organization_id",
            models.TextField(
                "organisation",
                blank=True,
                default="",
                editable=False,
                help_text="The provider's own name for the account, learned from its answers.",
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            "providerkey",
            "workspace_id",
            models.TextField("workspace", blank=True, default="", editable=False, help_text="Likewise."),
            preserve_default=False,
        ),
        migrations.AddField("providerkey", "account_learned_at", models.DateTimeField(editable=False, null=True)),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
