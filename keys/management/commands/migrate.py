"""Django's `migrate`, which doesn't keep calls waiting for the locks that it needs (keys/migrating.py)."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate
from django.db import connections

from keys import migrating


class Command(migrate.Command):
    """The same options and answers. A line says so where it waits for others."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, and try again where others hold a table.

        Raises:
            OperationalError: others have held a table for minutes, or the database failed.
        """

        def waits(number: int) -> None:
            if options["verbosity"] and (number == 1 or number % 20 == 0):
                self.stderr.write(f"Others hold a table that this needs; trying again (try {number}) …")

        if options["plan"] or options["check_unapplied"]:
            super().handle(*args, **options)
            return
        migrating.patiently(
            connections[options["database"]], lambda: super(Command, self).handle(*args, **options), waits
        )
