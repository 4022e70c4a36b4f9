"""Indexes of the ledger by which pages find the latest calls of an owner, of a session, and those that stand out."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations

from usage import ledger_indexes

SESSION = "client_labels ->> 'claude_code_session'"

# Each index by its name: what follows `ON usage_ledgerentry`. The rows of the partial ones are few.
INDEXES = {
    "usage_ledger_customer": "(customer_id, id)",
    "usage_ledger_team": "(team_id, id) WHERE team_id IS NOT NULL",
    "usage_ledger_session": f"(({SESSION}), id) WHERE {SESSION} IS NOT NULL",
    "usage_ledger_unfinished": "(id) WHERE status <> 'completed'",
    "usage_ledger_estimated": "(id) WHERE estimated",
    "usage_ledger_flagged": "(price_flag, id) WHERE price_flag <> ''",
}


def make(apps: Any, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM usage_ledgerentry)")
        if cursor.fetchone()[0]:
            ledger_indexes.make(cursor, INDEXES)
            return
        for index, definition in INDEXES.items():
            cursor.execute(f"CREATE INDEX {index} ON usage_ledgerentry {definition}")


def drop(apps: Any, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        for index in INDEXES:
            cursor.execute(f"DROP INDEX IF EXISTS {index}")


class Migration(migrations.Migration):
    atomic = False
    dependencies: ClassVar = [("usage", "0026_owner_days")]
    operations: ClassVar = [migrations.RunPython(make, drop)]
