"""manage.py erase_names"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from keys.audit import erasure
from keys.audit.notes import note
from keys.commands import GatewayCommand


class Command(GatewayCommand):
    help = (
        "Erase the names of a person or key from the audit log. Its events stay, with the id in place of the name, and "
        "so do the seals. First delete or rename the user or key itself, since the log keeps the names of that too."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("whose", metavar="WHOSE", help=f"by id, as the audit log shows it: {erasure.SAID}")

    def handle(self, *args: Any, **options: Any) -> None:
        names = erasure.find(options["whose"])
        kind, _, key = options["whose"].partition(":")
        count, _ = names.delete()
        note("erased names", erasure.TABLES[kind], key, count=count)
        self.stdout.write(f"Names erased from the audit log: {count}.")
