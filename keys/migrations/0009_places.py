"""Where a cloud's models are called: its region, and the project that is billed."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models

# Another place is another account, or may be well where the one before was not.
TRIGGERS = """
DROP TRIGGER keys_providerkey_account ON keys_providerkey;
CREATE TRIGGER keys_providerkey_account BEFORE UPDATE ON keys_providerkey FOR EACH ROW
    WHEN (({old}) IS DISTINCT FROM ({new}))
    EXECUTE FUNCTION keys_forget_account();
DROP TRIGGER keys_providerkey_cooldown ON keys_providerkey;
CREATE TRIGGER keys_providerkey_cooldown AFTER UPDATE ON keys_providerkey FOR EACH ROW
    WHEN (({old}) IS DISTINCT FROM ({new}))
    EXECUTE FUNCTION keys_end_cooldowns();
"""
BEFORE = ("provider", "base_url", "secret_ciphertext")
NOW = (*BEFORE, "region", "project")


def triggers(columns: tuple[str, ...]) -> str:
    """The triggers, to look at these columns."""
    old, new = (", ".join(f"{row}.{column}" for column in columns) for row in ("OLD", "NEW"))
    return TRIGGERS.format(old=old, new=new)


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0008_routing")]
    operations: ClassVar = [
        migrations.AddField(
            "providerkey",
            "region",
            models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Bedrock's (eu-central-1) or Vertex's (europe-west1, global). Empty elsewhere.",
                max_length=50,
            ),
        ),
        migrations.AddField(
            "providerkey",
            "project",
            models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Google's project, for Vertex. Empty: the service account's own.",
                max_length=100,
            ),
        ),
        migrations.RunSQL(triggers(NOW), triggers(BEFORE)),
    ]
