"""Help texts and labels in plain words; no table changes."""

from __future__ import annotations

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("keys", "0017_plain_words"),
        ("usage", "0023_arbiter_versions"),
    ]

    operations: ClassVar = [
        migrations.AlterField(
            model_name="alerttarget",
            name="customer",
            field=models.ForeignKey(
                blank=True,
                help_text="Alerts about this customer, its teams and its keys. Empty: about all customers.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="alert_targets",
                to="keys.customer",
            ),
        ),
        migrations.AlterField(
            model_name="override",
            name="windows",
            field=models.PositiveIntegerField(
                blank=True, help_text="Number of windows that it was created for.", null=True
            ),
        ),
        migrations.AlterConstraint(
            model_name="topup",
            name="usage_topup_amount",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount", 0), _negated=True),
                name="usage_topup_amount",
                violation_error_message="The amount of a top-up can't be zero.",
            ),
        ),
    ]
