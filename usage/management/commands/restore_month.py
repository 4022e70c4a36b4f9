"""manage.py restore_month"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from django.core.management import CommandParser

from keys.commands import GatewayCommand
from keys.errors import Unusable
from usage import archiving, restoring
from usage.management.commands.archive_month import parse


class Command(GatewayCommand):
    help = (
        "Put an archived month back into the ledger, if its files are as they were written. Example: manage.py "
        "restore_month var/archive/ledger-2026-08.json"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", nargs="?", help="the month's manifest, beside its other files")
        parser.add_argument(
            "--strays",
            metavar="MONTH",
            help="instead: make a month's partition, and move the rows there that are in the default partition",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["file"]) == bool(options["strays"]):
            raise Unusable("expected a FILE or --strays MONTH")
        by = getpass.getuser()
        if options["strays"]:
            month = parse(options["strays"])
            moved = restoring.move_strays(month, by=by)
            self.stdout.write(f"{moved:,} rows are in the partition of {month:%Y-%m} now.")
            return
        row = restoring.restore(Path(options["file"]).resolve(), by=by)
        self.stdout.write(f"{row} is in the ledger again: {archiving.rows_of(row):,} rows.")
