"""The audit log, as tests read it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection

from keys.audit.models import AuditEvent
from keys.audit.words import Words
from tests.support.ledger_rows import make_cast


@pytest.fixture
def cast(db):
    return make_cast()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder of the test's own, and an empty log."""
    monkeypatch.setattr(settings, "VAR_DIR", tmp_path)
    return tmp_path


@pytest.fixture
def boss(client, db):
    user = User.objects.create_superuser("boss")
    client.force_login(user)
    return user


def sql(statement: str, *values: str | int) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def watched() -> set[str]:
    """The tables with the log's trigger."""
    return {row[0] for row in sql("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'keys_audit_rows'")}


# Those of saved reports, of statements, and of the reconciliation.
REPORTED = {"usage_savedreport", "usage_reportschedule", "usage_reportrecipient"}
BILLED = {"billing_issuer", "billing_particulars"}
RECONCILED = {f"reconciliation_{each}" for each in ("adminkey", "reportedkey", "billformat", "bill", "adjustmentrun")}


def last(table: str) -> AuditEvent:
    return AuditEvent.objects.filter(table_name=table).latest("id")


def said(event: AuditEvent) -> tuple[str, str]:
    words = Words([event])
    return words.who(event), words.what(event)


def verified() -> tuple[int, str]:
    """The exit code of `verify_audit`, and what it says."""
    out = io.StringIO()
    try:
        call_command("verify_audit", stdout=out, stderr=io.StringIO())
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def forge(*statements: str) -> None:
    """Run SQL as the database's owner, whom no trigger stops."""
    for table in ("keys_auditevent", "keys_auditseal"):
        sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    for statement in statements:
        sql(statement)
    for table in ("keys_auditevent", "keys_auditseal"):
        sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")
