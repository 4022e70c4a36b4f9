"""Migrations run while calls are served: they neither fail a call nor keep it waiting for a lock."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, migrations, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState
from django.db.utils import NotSupportedError

from keys import migrating
from tests.support.databases import admin_connection, new_database, using
from tests.support.gateway import Web, ask, issue, started
from usage.models import Budget, LedgerEntry

OURS = ("keys", "usage", "reconciliation", "messages_api", "billing", "administration")
# The first number of each app that keeps to the rule. Earlier ones have landed, and stay as they are.
RULE_FROM = {"keys": 26, "usage": 48, "reconciliation": 3, "messages_api": 3, "billing": 5, "administration": 6}
# Newest migrations that this version's calls can't do without. They are applied before the traffic begins.
NEEDED_BY_CALLS: set[tuple[str, str]] = set()


@pytest.fixture
def upgraded(django_db_blocker) -> Iterator[str]:
    """A migrated database of the test's own, as Django's; its name."""
    with django_db_blocker.unblock(), new_database("upgraded") as name, using(name):
        yield name


def before_the_newest() -> list[tuple[str, str]]:
    """Take back the newest migration of each app of ours that calls can do without. Returns them."""
    taken = []
    for app in reversed(OURS):
        loader = MigrationExecutor(connection).loader
        ((_, newest),) = loader.graph.leaf_nodes(app)
        parents = [key for key in loader.graph.node_map[app, newest].parents if key[0] == app]
        if (app, newest) in NEEDED_BY_CALLS or not parents:
            continue
        call_command("migrate", app, max(parents)[1], verbosity=0)
        taken.append((app, newest))
    return taken


def applied() -> set[tuple[str, str]]:
    return set(MigrationLoader(connection).applied_migrations)


class Traffic:
    """Calls at a steady rate until it ends; the statuses of their answers."""

    def __init__(self, web: Web, key: str) -> None:
        self.statuses: list[int] = []
        self.ended = threading.Event()
        self.web, self.key = web, key
        self.threads = [threading.Thread(daemon=True, target=self.run) for _ in range(4)]

    def run(self) -> None:
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not self.ended.wait(0.02):
                answer = client.post(
                    f"{self.web.url}/v1/messages", json=ask(model="echo-1"), headers={"x-api-key": self.key}
                )
                self.statuses.append(answer.status_code)

    def wait_for(self, count: int) -> None:
        """Until this number of further calls have been answered."""
        until = len(self.statuses) + count
        while len(self.statuses) < until and any(thread.is_alive() for thread in self.threads):
            time.sleep(0.02)

    def __enter__(self) -> Traffic:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()


@contextlib.contextmanager
def lock_waits() -> Iterator[list[tuple[int, str]]]:
    """Who waited for a lock of this connection's through more turns than a `lock_timeout` has, and with which query."""
    connection.ensure_connection()
    ours = connection.connection.info.backend_pid
    seen: Counter[tuple[int, str]] = Counter()
    long: list[tuple[int, str]] = []
    ended = threading.Event()

    def watch() -> None:
        with admin_connection() as link:
            while not ended.is_set():
                # The database measures, in the statement that looks: a test that gets no turn counts nothing twice.
                waiting = link.execute(
                    "SELECT pid, mode FROM pg_locks WHERE NOT granted AND %s = ANY (pg_blocking_pids(pid))"
                    " AND clock_timestamp() - waitstart > make_interval(secs => %s)",
                    [ours, migrating.LOCK_TIMEOUT * 5 / 1000],
                )
                seen.update(waiting.fetchall())
                time.sleep(0.05)

    thread = threading.Thread(daemon=True, target=watch)
    thread.start()
    yield long
    ended.set()
    thread.join()
    long += seen


@pytest.mark.long
def test_the_newest_migrations_of_each_app_fail_no_call_and_keep_none_waiting(upgraded):
    taken = before_the_newest()
    assert taken
    caller = issue(None)
    # Connections of web processes have a `lock_timeout`: a call that waited longer for a lock would be refused.
    with started() as web, Traffic(web, caller.key) as traffic:
        traffic.wait_for(20)
        with lock_waits() as blocked:
            call_command("migrate", verbosity=0)
        traffic.wait_for(20)

    assert set(taken) <= applied()
    assert set(traffic.statuses) == {200}
    assert not blocked
    assert LedgerEntry.objects.count() == len(traffic.statuses)


def test_a_migration_gives_way_to_calls_while_others_hold_its_table(upgraded):
    caller = issue(None)
    ((_, newest),) = MigrationLoader(connection).graph.leaf_nodes("keys")
    call_command("migrate", "keys", "0023", verbosity=0)
    said, gave_way, failures = io.StringIO(), threading.Event(), []

    class Said(io.StringIO):
        def write(self, text: str) -> int:
            gave_way.set()
            return said.write(text)

    def migrate() -> None:
        try:
            call_command("migrate", "keys", verbosity=1, stdout=io.StringIO(), stderr=Said())
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    with admin_connection() as holder, admin_connection() as call, holder.transaction():
        holder.execute("UPDATE keys_virtualkey SET name = name WHERE id = %s", [caller.virtual_key.pk])
        thread = threading.Thread(daemon=True, target=migrate)
        thread.start()
        assert gave_way.wait(60)
        # A migration that still waited for its lock would have this one queue behind it.
        call.execute("SET lock_timeout = '30s'")
        call.execute("UPDATE keys_virtualkey SET name = name WHERE false")
        assert ("keys", newest) not in applied()
    thread.join(60)

    assert not failures
    assert ("keys", newest) in applied()
    assert "Others hold a table" in said.getvalue()


def test_new_migrations_do_nothing_that_locks_a_table_for_long(db):
    loader = MigrationLoader(connection)
    found = []
    for app, name in sorted(loader.disk_migrations):
        if int(name[:4]) >= RULE_FROM.get(app, 10_000):
            sql = loader.collect_sql([(loader.disk_migrations[app, name], False)])
            found += [f"{app}.{name}: {fault}" for fault in migrating.faults(sql)]
    assert not found


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ('CREATE INDEX "i" ON "t" ("a");', "makes an index of t"),
        ("CREATE UNIQUE INDEX i ON ONLY t (a);", "makes an index of t"),
        ('ALTER TABLE "t" ALTER COLUMN "a" TYPE bigint USING "a"::bigint;', "t: changes a column's type"),
        ('ALTER TABLE "t" ALTER COLUMN "a" SET NOT NULL;', "t: scans for NULL"),
        ('ALTER TABLE "t" ADD CONSTRAINT "c" UNIQUE ("a");', "t: builds an index"),
        ('ALTER TABLE "t" ADD CONSTRAINT "c" CHECK (a > 0);', "t: scans for the constraint"),
        ("UPDATE t SET a = 1;", "changes all rows of t"),
        ('CREATE INDEX CONCURRENTLY "i" ON "t" ("a");', None),
        ('CREATE TABLE "t" ("a" int);\nCREATE INDEX "i" ON "t" ("a");\nUPDATE t SET a = 1;', None),
        ('ALTER TABLE "t" ADD CONSTRAINT "c" CHECK (a > 0) NOT VALID;', None),
        ('ALTER TABLE "t" ADD COLUMN "b" int DEFAULT 1 NOT NULL;', None),
        ("CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ UPDATE t SET a = 1; $$;", None),
        ("UPDATE t SET a = 1 WHERE id IN (SELECT id FROM t WHERE a IS NULL LIMIT 1000);", None),
    ],
)
def test_a_statement_that_locks_a_table_for_long_is_named(sql, fault):
    found = list(migrating.faults([sql]))
    assert (not found) if fault is None else (len(found) == 1 and found[0].startswith(fault))


def apply(operation, atomic: bool = False, app: str = "usage") -> None:
    """Run one operation on the tables of this version."""
    state = MigrationLoader(connection).project_state()
    after: ProjectState = state.clone()
    operation.state_forwards(app, after)
    with connection.schema_editor(atomic=atomic) as editor:
        operation.database_forwards(app, editor, state, after)


def test_an_index_is_made_beside_writers_and_again_where_an_attempt_was_cut_off(upgraded):
    caller = issue(None)
    operation = migrating.AddIndexWithoutLock("budget", models.Index(fields=["created_at"], name="usage_budget_made"))
    with admin_connection() as link:
        Budget.objects.create(customer=caller.virtual_key.customer, amount=1)
        Budget.objects.create(team=caller.team, amount=1)
        with pytest.raises(psycopg.errors.UniqueViolation):
            link.execute("CREATE UNIQUE INDEX CONCURRENTLY usage_budget_made ON usage_budget (active)")
        apply(operation)
        apply(operation)
        valid = link.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'usage_budget_made'::regclass")
        assert valid.fetchall() == [(True,)]
    with pytest.raises(NotSupportedError):
        apply(operation, atomic=True)


def test_an_index_of_the_ledger_is_made_one_month_at_a_time(upgraded):
    operation = migrating.AddIndexWithoutLock("ledgerentry", models.Index(fields=["model"], name="usage_ledger_try"))
    apply(operation)
    apply(operation)
    with admin_connection() as link:
        valid = link.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'usage_ledger_try'::regclass")
        assert valid.fetchall() == [(True,)]
        parts = link.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'usage_ledger_try'::regclass")
        months = link.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'usage_ledgerentry'::regclass")
        assert parts.fetchone() == months.fetchone()


def test_rows_are_moved_in_batches_and_one_that_a_call_holds_is_not_forgotten(upgraded):
    some = "SELECT id FROM public.moved WHERE b IS NULL LIMIT 3 FOR UPDATE SKIP LOCKED"
    moving = f"UPDATE public.moved SET b = a WHERE id IN ({some})"

    def move() -> None:
        try:
            apply(migrating.InBatches(moving))
        finally:
            connection.close()

    with admin_connection() as link, admin_connection() as call:
        link.execute("CREATE TABLE public.moved (id int, a int, b int)")
        link.execute("INSERT INTO public.moved SELECT i, i FROM generate_series(1, 10) i")
        thread = threading.Thread(daemon=True, target=move)
        with call.transaction():
            call.execute("UPDATE public.moved SET a = 70 WHERE id = 7")
            thread.start()
            while thread.is_alive() and link.execute(
                "SELECT count(*) FROM public.moved WHERE b IS NULL"
            ).fetchone() != (1,):
                time.sleep(0.02)
        thread.join(60)
        assert link.execute("SELECT a, b FROM public.moved WHERE id = 7").fetchall() == [(70, 70)]
        assert link.execute("SELECT count(*) FROM public.moved WHERE b IS NULL").fetchone() == (0,)


def test_a_statement_without_a_limit_is_no_batch(upgraded):
    with pytest.raises(NotSupportedError, match="LIMIT"):
        apply(migrating.InBatches("UPDATE usage_budget SET active = active"))
    assert isinstance(migrating.InBatches("…"), migrations.operations.base.Operation)
