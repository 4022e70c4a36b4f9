"""manage.py archive_month"""

from __future__ import annotations

import getpass
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management import CommandParser

from keys.commands import GatewayCommand
from keys.errors import Unusable
from usage import archived, archiving


class Command(GatewayCommand):
    help = (
        "Archive a month of the ledger: export it to gzipped CSV, verify the files, and take its rows out of the "
        "ledger. Refused unless the month is over, closed, verified and rolled up. Repeat it if it was cut off. "
        "Example: manage.py archive_month 2026-08"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("month", metavar="MONTH", help="such as 2026-08 (UTC)")
        parser.add_argument("--folder", metavar="DIR", help="where the files go; default: ARCHIVE_DIR")
        parser.add_argument("--drop", action="store_true", help="delete the table too, not only after a time")
        parser.add_argument("--check", action="store_true", help="only say why it can't be archived yet")

    def handle(self, *args: Any, **options: Any) -> None:
        month = parse(options["month"])
        if options["check"]:
            archiving.refuse(archiving.ledger_month(month))
            self.stdout.write(f"{month:%Y-%m} can be archived.")
            return
        folder = Path(options["folder"] or archived.folder()).resolve()
        done = archiving.archive(month, by=getpass.getuser(), folder=folder, drop=options["drop"])
        row = done.row
        if done.mended:
            self.say(f"The roll-ups of {done.mended} days differed from the ledger, and were summed again.")
        if not done.fresh:
            self.say(f"{row} was archived before.")
        said = row.manifest["files"][row.file]
        self.stdout.write(f"{row.folder}/{row.file}: {said['rows']:,} rows, SHA-256 {said['sha256']}")
        if done.dropped:
            self.say("Its table is deleted.")


def parse(text: str) -> date:
    """The first day of a month.

    Raises:
        Unusable: the text isn't one.
    """
    try:
        return date.fromisoformat(f"{text.strip()}-01")
    except ValueError:
        raise Unusable(f"“{text[:20]}” is not a month, such as 2026-08") from None
