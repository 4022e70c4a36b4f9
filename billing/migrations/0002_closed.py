"""What is closed stays as it is, and numbers have no gap (billing/sql/statements.sql). The audit log watches issuers
and billing particulars."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations

from keys.audit.watched import Watched, unwatch, watch

SQL = Path(__file__).resolve().parent.parent / "sql"
TABLES = {
    "billing_issuer": Watched(plain="name address prefix four_eyes"),
    "billing_particulars": Watched(
        plain=(
            "customer_id issuer_id billing_name address time_zone currency cost_centre debit_account credit_account "
            "by_team"
        ),
        names="contacts",
        belongs={"customer_id": "keys_customer"},
    ),
}
UNDO = """
DROP TRIGGER billing_issuer_numbers ON billing_issuer;
DROP FUNCTION billing_keep_numbers;
DROP FUNCTION billing_refuse_change CASCADE;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("billing", "0001_initial"), ("keys", "0023_demo_data"), ("usage", "0035_rollup_alerts")]

    operations: ClassVar = [
        migrations.RunSQL((SQL / "statements.sql").read_text(), UNDO),
        migrations.RunSQL(watch(TABLES), unwatch(TABLES)),
    ]
