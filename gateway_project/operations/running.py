"""The database of a command: the one that runs, or the embedded one, started for as long as the command takes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from django.conf import settings
from django.db import connection

from gateway_project import database, embedded_postgres, postgres_upgrade, processes, supervisor, unavailable
from gateway_project.embedded_postgres import CannotStart
from keys.errors import Unusable

Say = Callable[[str], None]


@contextlib.contextmanager
def the_database(say: Say, *, made: bool = False) -> Iterator[None]:
    """Within this block the database answers, if it can be made to.

    Args:
        made: make an embedded database if it is missing.

    Raises:
        Unusable: the embedded server can't be started.
    """
    var_dir = Path(settings.VAR_DIR).resolve()
    if settings.CONFIGURATION.database_url or unavailable.supervisor_runs(var_dir / "run"):
        yield
        return
    has_data = (var_dir / "postgres" / "data").exists() or (var_dir / "instance").exists()
    if not (has_data or made):
        yield  # the command says that it is missing
        return
    with contextlib.ExitStack() as held:
        try:
            run_dir = supervisor.make_folders(var_dir)
            held.enter_context(supervisor.only_one(run_dir))
            os.environ[processes.MARK] = os.fspath(run_dir)
            supervisor.end_orphans(run_dir)
            say("The gateway is not running: starting its database for this command.")
            server = postgres_upgrade.prepared(var_dir, say)
            log = var_dir / "log" / "postgres.log"
            process = embedded_postgres.start(server, log)
            held.callback(processes.end, process, signal.SIGINT, patience=60)
            embedded_postgres.wait_until_ready(server, process, log)
        except CannotStart as error:
            raise Unusable(str(error)) from None
        (var_dir / database.URL_FILE).write_text(server.url + "\n")
        held.callback(connection.close)
        found = database.parse(server.url)
        settings.DATABASES["default"].update(found)
        connection.settings_dict.update(found)
        yield
