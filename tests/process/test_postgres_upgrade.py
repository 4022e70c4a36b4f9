"""A new major version of the embedded PostgreSQL: the data are moved by programs that were kept beside them."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections import namedtuple
from pathlib import Path

import psycopg
import pytest

from gateway_project import embedded_postgres, postgres_upgrade, processes
from gateway_project.embedded_postgres import CannotStart

Space = namedtuple("Space", ["total", "used", "free"])
TABLES = """
CREATE TABLE usage_ledgerentry (id int, xid xid8 NOT NULL DEFAULT pg_current_xact_id());
CREATE TABLE usage_adjustment (id int, xid xid8 NOT NULL DEFAULT pg_current_xact_id());
INSERT INTO usage_ledgerentry (id) VALUES (1);
UPDATE usage_ledgerentry SET xid = '5000000000';
"""


@pytest.fixture
def var_dir(monkeypatch):
    folder = Path(tempfile.mkdtemp(prefix="gateway-upgrade-", dir="/tmp"))
    if os.geteuid() == 0:
        folder.chmod(0o755)
        monkeypatch.setattr(embedded_postgres, "SYSTEM_DIR", folder / "system")
    yield folder
    shutil.rmtree(folder)


def only(monkeypatch, version):
    """The wheel has this version alone."""
    every = embedded_postgres.installations()
    monkeypatch.setattr(embedded_postgres, "installations", lambda: {version: every[version]})


def visit(var_dir, query, *, said=None):
    """Start the server as `make run` does, ask it, and stop it; the answer and the server."""
    say = (said if said is not None else []).append
    server = postgres_upgrade.prepared(var_dir, say)
    log = var_dir / "postgres.log"
    process = embedded_postgres.start(server, log)
    try:
        embedded_postgres.wait_until_ready(server, process, log)
        with psycopg.connect(server.url) as connection:
            cursor = connection.execute(query)
            return (cursor.fetchone() if cursor.description else None), server
    finally:
        processes.end(process, signal.SIGINT, patience=60)


@pytest.mark.long
def test_data_of_a_version_that_the_wheel_no_longer_has_are_moved_and_the_old_folder_is_kept(var_dir, monkeypatch):
    old, new = min(embedded_postgres.installations()), max(embedded_postgres.installations())
    assert old < new
    with monkeypatch.context() as before:
        only(before, old)
        _, server = visit(var_dir, TABLES)
    only(monkeypatch, new)
    said: list[str] = []
    version = "current_setting('server_version_num')::int / 10000"
    query = f"INSERT INTO usage_ledgerentry (id) VALUES (2) RETURNING {version}, xid > '5000000000'::xid8"
    answer, server = visit(var_dir, query, said=said)
    assert answer == (new, True)
    assert f"from PostgreSQL {old} to {new}" in said[0]
    (kept,) = server.data.parent.glob(f"data-{old}-until-*")
    assert (kept / "PG_VERSION").read_text().strip() == str(old)
    again: list[str] = []
    answer, _ = visit(var_dir, "SELECT array_agg(id ORDER BY id) FROM usage_ledgerentry", said=again)
    assert answer == ([1, 2],)
    assert again == []


@pytest.mark.long
def test_a_move_that_fails_leaves_the_data_as_they_were(var_dir, monkeypatch):
    old, new = min(embedded_postgres.installations()), max(embedded_postgres.installations())
    with monkeypatch.context() as before:
        only(before, old)
        visit(var_dir, "CREATE TABLE kept (id int)")
    with monkeypatch.context() as after:
        only(after, new)
        after.setattr(shutil, "disk_usage", lambda folder: Space(1, 1, 0))
        with pytest.raises(CannotStart, match="MB left"):
            visit(var_dir, "SELECT 1")
    answer, server = visit(var_dir, "SELECT count(*) FROM kept")
    assert answer == (0,)
    assert not list(server.data.parent.glob("data-*"))
    # Without the old programs the data are refused, not opened.
    shutil.rmtree(server.data.with_name(f"programs-{old}"))
    only(monkeypatch, new)
    with pytest.raises(CannotStart, match=f"written by PostgreSQL {old}"):
        visit(var_dir, "SELECT 1")
