"""The audit log survives a dump and its restoration."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import ProgrammingError, transaction

from gateway_project import embedded_postgres
from keys.audit import seals
from keys.audit.models import AuditEvent
from keys.connection import parameters
from tests.support.audit_log import folder as folder
from tests.support.audit_log import last, said, sql
from tests.support.databases import drop_database, maintenance_connection, new_database, using

pytestmark = pytest.mark.either_server


def programs() -> Path:
    """The folder of the tools of the server's own version, or of the newest one."""
    if os.environ.get("TEST_DATABASE_URL"):
        found = shutil.which("pg_dump")
        assert found
        return Path(found).parent
    return max(embedded_postgres.installations().items())[1] / "bin"


def run(program: str, name: str, *arguments: str) -> bytes:
    to = parameters() | {"dbname": name}
    place = psycopg.conninfo.make_conninfo(
        "", **{key: to[key] for key in ("host", "port", "user", "dbname") if key in to}
    )
    done = subprocess.run(
        [str(programs() / program), "--dbname", place, *arguments], capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_a_restored_dump_has_the_log_its_names_and_its_triggers(django_db_blocker, folder):
    with django_db_blocker.unblock(), new_database("dumped") as source:
        restored = f"{source}_restored"
        dump = folder / "dump"
        with using(source):
            user = User.objects.create_user("henriette", email="henriette@example.com")
            user.email = "h@example.com"
            user.save()
            seals.seal()
            events = AuditEvent.objects.count()
        run("pg_dump", source, "--format=custom", f"--file={dump}")
        with maintenance_connection() as link:
            link.execute(f'CREATE DATABASE "{restored}" TEMPLATE template0')
        try:
            run("pg_restore", restored, "--exit-on-error", str(dump))
            with using(restored):
                assert AuditEvent.objects.count() == events, "the restoration itself makes no events"
                assert "henriette@example.com → h@example.com" in said(last("auth_user"))[1]
                with pytest.raises(ProgrammingError, match="append-only"), transaction.atomic():
                    sql("DELETE FROM keys_auditevent")
                out = io.StringIO()
                call_command("verify_audit", stdout=out)
                assert f"All {events:,} sealed events" in out.getvalue()
                newest = AuditEvent.objects.latest("id").id
                Group.objects.create(name="later")
                assert last("auth_group").id > newest
                call_command("verify_audit", stdout=io.StringIO())
                assert seals.seal() == []
        finally:
            with maintenance_connection() as link:
                drop_database(link, restored)
