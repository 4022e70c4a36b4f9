"""A change of an own price moves the catalogue's revision, so that every process reads prices anew before its next
call."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0003_first_prices")]
    operations: ClassVar = [
        migrations.RunSQL(
            "CREATE TRIGGER usage_price_revision AFTER INSERT OR UPDATE OR DELETE ON usage_price"
            " FOR EACH STATEMENT EXECUTE FUNCTION keys_touch_catalogue()",
            "DROP TRIGGER usage_price_revision ON usage_price",
        )
    ]
