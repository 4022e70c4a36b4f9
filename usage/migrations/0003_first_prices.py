"""What the built-in echo provider pretends to cost, so that spend shows from the first call on."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.db import migrations


def add_echo_price(apps: object, schema_editor: object) -> None:
    from datetime import UTC, datetime

    price = apps.get_model("usage", "Price")  # type: ignore[attr-defined]
    price.objects.create(
        provider="echo",
        model="*",
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
        input=Decimal(3),
        output=Decimal(15),
        cache_read=Decimal("0.3"),
        cache_write_5m=Decimal("3.75"),
        cache_write_1h=Decimal(6),
        note="pretended",
    )


class Migration(migrations.Migration):
    dependencies: ClassVar = [("usage", "0002_arbiter")]
    operations: ClassVar = [migrations.RunPython(add_echo_price, migrations.RunPython.noop)]
