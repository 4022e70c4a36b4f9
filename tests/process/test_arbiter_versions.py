"""The arbiter's functions of several versions in one database, and a database that is upgraded."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.utils import timezone

from gateway_project import database, embedded_postgres, supervisor
from keys.connection import parameters
from tests.support.asked_arbiter import Arbiter, give_credential, settlement
from tests.support.databases import admin_connection, drop_database, maintenance_connection, new_database, using
from tests.support.gateway import Web
from tests.support.ledger_rows import make_cast
from usage import functions, verification
from usage.admission import INTERRUPT
from usage.models import ArbiterVersion, Budget, Hold, LedgerEntry, Limit, Process
from usage.request_ids import new_id

ROOT = Path(__file__).resolve().parent.parent.parent
C9DEB3C = Path(__file__).parent / "schemas" / "c9deb3c.sql"
OBJECTS = """
SELECT 'function', oid::regprocedure::text, md5(prosrc) FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace
UNION ALL SELECT 'type', typname::text, '' FROM pg_type WHERE typnamespace = %(schema)s::regnamespace
ORDER BY 1, 2, 3
"""
OLDER = "arbiter_000000000000"

pytestmark = pytest.mark.either_server


def url_of(name: str) -> str:
    return database.url_of(connection.settings_dict | {"NAME": name})


def dump(name: str) -> list[str]:
    """The schema of a database, line by line, without the months' partitions of the ledger. From PostgreSQL 18 on, NOT
    NULL has a name, which a column that was renamed keeps from before."""
    program = max(embedded_postgres.installations().items())[1] / "bin" / "pg_dump"
    options = ["--schema-only", "--no-owner", "--no-privileges", "--exclude-table=usage_ledgerentry_2*"]
    done = subprocess.run([program, *options, url_of(name)], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith(("--", "\\"))]
    # Some builds of PostgreSQL count the versions of columns.
    return [re.sub(r"CONSTRAINT \w+ NOT NULL", "NOT NULL", line) for line in lines if "SET (pg_attver=" not in line]


def dump_of_copy(name: str) -> list[str]:
    """The schema of a database that is made from its dump: how PostgreSQL writes an expression depends on whether a
    migration has made it or a dump."""
    copy = f"{name}_again"
    settings_at_top = re.compile(r"^SET (?!check_function_bodies).*$", re.M)
    with maintenance_connection() as link:
        drop_database(link, copy)
        link.execute(f'CREATE DATABASE "{copy}" TEMPLATE template0')
        with psycopg.connect(**(parameters() | {"dbname": copy, "options": ""}), autocommit=True) as empty:
            empty.execute(settings_at_top.sub("", "\n".join(dump(name))))
        found = dump(copy)
        drop_database(link, copy)
    return found


def is_made() -> bool:
    with admin_connection() as link:
        return link.execute(functions.IS_MADE, [functions.SCHEMA]).fetchone() == (True,)


@pytest.fixture(scope="session")
def fresh(django_db_blocker):
    """The name of a database that was just made, without connections."""
    with django_db_blocker.unblock(), new_database("fresh") as name:
        yield name


@pytest.fixture
def versions(fresh, django_db_blocker):
    """A copy of it, as Django's database; its name."""
    name = f"{fresh}_copy"
    with django_db_blocker.unblock(), maintenance_connection() as link:
        drop_database(link, name)
        link.execute(f'CREATE DATABASE "{name}" TEMPLATE "{fresh}"')
        with using(name):
            yield name
        drop_database(link, name)


@pytest.fixture
def upgraded(django_db_blocker, tmp_path):
    """A database of commit c9deb3c that `make run` has upgraded; its name."""
    name = f"{settings.DATABASES['default']['NAME']}_upgraded"
    with django_db_blocker.unblock(), maintenance_connection() as link:
        drop_database(link, name)
        link.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        with psycopg.connect(**(parameters() | {"dbname": name, "options": ""}), autocommit=True) as old:
            old.execute(C9DEB3C.read_text())
        set_up(name, tmp_path)
        with using(name):
            yield name
        drop_database(link, name)


def set_up(name: str, folder: Path) -> None:
    """What `make run` does before it starts processes."""
    supervisor.make_folders(folder)
    environment = os.environ | {"DATABASE_URL": url_of(name), "VAR_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "gateway_project.first_run"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_an_upgraded_database_is_like_a_fresh_one_and_serves(upgraded, fresh):
    with using(fresh), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE auth_user ENABLE TRIGGER administration_last_owner")
    assert dump_of_copy(upgraded) == dump_of_copy(fresh)
    web = Web()
    try:
        web.start()
    finally:
        web.close()


def test_setting_up_again_changes_nothing(versions):
    with admin_connection() as link:
        before = link.execute(OBJECTS, {"schema": functions.SCHEMA}).fetchall()
        numbers = link.execute("SELECT oid FROM pg_proc WHERE pronamespace = %s::regnamespace", [functions.SCHEMA])
        oids = sorted(numbers.fetchall())
        call_command("migrate", verbosity=0)
        assert functions.make() is False
        assert link.execute(OBJECTS, {"schema": functions.SCHEMA}).fetchall() == before
        numbers = link.execute("SELECT oid FROM pg_proc WHERE pronamespace = %s::regnamespace", [functions.SCHEMA])
        assert sorted(numbers.fetchall()) == oids
    assert ArbiterVersion.objects.get().schema == functions.SCHEMA


def test_one_of_several_processes_at_once_makes_the_functions(versions):
    with admin_connection() as link:
        link.execute(f"DROP SCHEMA {functions.SCHEMA} CASCADE")
    made = []

    def make() -> None:
        try:
            made.append(functions.make())
        finally:
            connection.close()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, False, False, True]
    assert is_made()


@pytest.mark.parametrize("roles", ["api,admin", "admin"])
def test_a_process_whose_functions_were_never_made_says_so_in_one_line(versions, roles):
    with admin_connection() as link:
        link.execute(f"DROP SCHEMA {functions.SCHEMA} CASCADE")
    web = Web(roles=roles)
    try:
        with pytest.raises(AssertionError):
            web.start()
        said = web.log.read_text()
    finally:
        web.close()
    assert said.count("ArbiterMissing: The database lacks the arbiter of this version") == 1, said
    assert "Traceback" not in said
    assert not Process.objects.exists()


def test_a_process_of_pages_alone_uses_its_functions(versions):
    long_ago = timezone.now() - functions.KEPT * 2
    ArbiterVersion.objects.filter(schema=functions.SCHEMA).update(used_at=long_ago)
    web = Web(roles="admin")
    try:
        web.start()
        assert ArbiterVersion.objects.get(schema=functions.SCHEMA).used_at > timezone.now() - timedelta(minutes=5)
    finally:
        web.close()


def test_two_versions_serve_calls_at_once_and_counters_and_ledger_agree(versions):
    """The functions of the commit before, which are the tables' schema's, and ours."""
    cast = make_cast()
    give_credential(cast.alice)
    Budget.objects.create(team=cast.alice.team, amount=1, period="month")
    Budget.objects.create(virtual_key=cast.alice, amount=100_000, unit="tokens", period="day")
    Limit.objects.create(virtual_key=cast.alice, kind="parallel", rate=1000)
    admitted = []

    def serve(path: str, calls: int = 60) -> None:
        with psycopg.connect(**parameters(), autocommit=True) as link:
            link.execute("SELECT set_config('search_path', %s, false)", [path])
            asked = Arbiter(link)
            asked.start()
            for number in range(calls):
                call, verdict = asked.admit(cast.alice, "0.03")
                if verdict != "admitted":
                    continue
                admitted.append(call.id)
                if number % 5:
                    asked.settle(call, "0.004")
                elif number % 10:
                    assert asked.one(INTERRUPT, call.id, 100) == 1

    paths = [functions.USUAL_PATH, functions.search_path()]
    threads = [threading.Thread(target=serve, args=[path]) for path in paths for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with admin_connection() as link:
        assert len(admitted) > 50
        Arbiter(link).counters()
    assert LedgerEntry.objects.count() + Hold.objects.count() == len(admitted)
    assert verification.verify() == []


def test_a_call_is_settled_by_another_version_than_admitted_it(versions):
    cast = make_cast()
    give_credential(cast.alice)
    Budget.objects.create(team=cast.alice.team, amount=1, period="month")
    with admin_connection() as link:
        asked = Arbiter(link)
        asked.start()
        for admits, settles in (
            (functions.USUAL_PATH, functions.search_path()),
            (functions.search_path(), functions.USUAL_PATH),
        ):
            link.execute("SELECT set_config('search_path', %s, false)", [admits])
            call, verdict = asked.admit(cast.alice)
            assert verdict == "admitted"
            link.execute("SELECT set_config('search_path', %s, false)", [settles])
            asked.group(settlements=[settlement(call, "0.1")])
        assert [spent for spent, _ in asked.counters().values()] == [Decimal("0.2")]


def make_older(link: psycopg.Connection, used: timedelta) -> None:
    link.execute(f"CREATE SCHEMA {OLDER}; CREATE FUNCTION {OLDER}.usage_f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    ArbiterVersion.objects.create(schema=OLDER, used_at=ArbiterVersion.objects.get().made_at - used)


def test_functions_that_no_process_uses_any_more_are_dropped(versions):
    with admin_connection() as link:
        make_older(link, functions.KEPT + timedelta(minutes=1))
        ArbiterVersion.objects.filter(schema=functions.SCHEMA).update(used_at="2026-01-01T00:00Z")
        assert functions.drop_unused() == [OLDER]
        assert functions.drop_unused() == []
        assert link.execute("SELECT to_regnamespace(%s)", [OLDER]).fetchone() == (None,)
    assert [each.schema for each in ArbiterVersion.objects.all()] == [functions.SCHEMA]
    assert is_made()


def test_functions_of_a_living_process_are_kept_and_then_for_a_while(versions):
    with admin_connection() as link:
        make_older(link, functions.KEPT * 2)
        process = Process.objects.create(id=new_id(), host="a", pid=1, arbiter=OLDER)
        assert functions.drop_unused() == []
        process.delete()
        assert functions.drop_unused() == []
        assert functions.drop_unused(timedelta(0)) == [OLDER]


def test_migrations_make_tables_where_tables_are(versions):
    class Thing(models.Model):
        class Meta:
            app_label = "usage"
            db_table = "thing"

    with connection.cursor() as cursor:
        cursor.execute("SHOW search_path")
        path = cursor.fetchone()
        with connection.schema_editor() as editor:
            editor.create_model(Thing)
            editor.execute("CREATE FUNCTION thing() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        cursor.execute("SHOW search_path")
        assert cursor.fetchone() == path
        cursor.execute(
            "SELECT 'thing'::regclass::oid = 'public.thing'::regclass, 'thing'::regproc = 'public.thing'::regproc"
        )
        assert cursor.fetchone() == (True, True)
        with contextlib.suppress(ZeroDivisionError), connection.schema_editor() as editor:
            editor.delete_model(Thing)
            raise ZeroDivisionError
        cursor.execute("SHOW search_path")
        assert cursor.fetchone() == path
        cursor.execute("SELECT 'thing'::regclass")


def test_a_search_path_of_the_role_is_not_passed_over_in_silence(versions):
    with admin_connection() as link:
        role = link.info.user
        link.execute(f'ALTER ROLE "{role}" IN DATABASE "{versions}" SET search_path = "$user", public')
        call_command("migrate", verbosity=0)
        link.execute(f'ALTER ROLE "{role}" IN DATABASE "{versions}" SET search_path = elsewhere')
        with pytest.raises(CommandError, match="search path elsewhere"):
            call_command("migrate", verbosity=0)


def test_the_search_path_of_the_url_is_where_tables_are():
    def path(url: str) -> str:
        options = database.parse(url)["OPTIONS"]
        assert isinstance(options, dict)
        return str(options["options"].rpartition("search_path=")[2])

    assert path("postgresql://a@b/c") == functions.search_path()
    assert path("postgresql://a@b/c?options=-csearch_path%3Dmine") == f"{functions.SCHEMA},mine"
    assert path("postgresql://a@b/c?options=-c%20search_path%3Dmine,x%20-c%20jit%3Don") == f"{functions.SCHEMA},mine,x"


def test_a_role_that_may_not_create_the_functions_gets_an_error_that_says_how(versions):
    with admin_connection() as link:
        link.execute(f"DROP SCHEMA {functions.SCHEMA} CASCADE")
        role = link.info.user
        if link.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (True,):
            pytest.skip("a superuser may do everything")
        link.execute(f'REVOKE CREATE ON DATABASE "{versions}" FROM "{role}"')
        with pytest.raises(CommandError, match=r"GRANT CREATE ON DATABASE"):
            functions.make()


def test_every_file_of_functions_is_listed():
    assert {path.name for path in functions.FOLDER.iterdir()} == set(functions.FILES)


def test_functions_call_those_of_their_own_version():
    """Besides them, the clock, which all versions of a database share."""
    made = set(re.findall(r"CREATE FUNCTION (usage_\w+)\(", functions.SQL))
    called = set(re.findall(r"(?<!CREATE FUNCTION )\b(usage_\w+)\(", functions.SQL))
    assert called - made == {"usage_now"}
    types = set(re.findall(r"CREATE TYPE (usage_\w+) AS", functions.SQL))
    named = set(re.findall(r"::(usage_\w+)", functions.SQL))
    assert named - types == {"usage_charge", "usage_throttle", "usage_hold", "usage_ledgerentry"} & named
