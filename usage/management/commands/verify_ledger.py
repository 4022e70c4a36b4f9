"""manage.py verify_ledger"""

from __future__ import annotations

import sys
from typing import Any

from django.core.management import CommandParser

from keys.commands import GatewayCommand
from usage import verification


class Command(GatewayCommand):
    help = (
        "Recompute every counter of budgets and limits from the last checkpoint, the ledger since then, and the holds. "
        "Exits with 1 if one differs; else what was verified becomes the next checkpoint."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--whole",
            action="store_true",
            help="read all that is still in the ledger, and begin a new chain of checkpoints",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        found = verification.check_point(whole=options["whole"])
        for fault in found.faults:
            self.stdout.write(str(fault))
        if found.faults:
            self.say(f"Counters that differ from the ledger and the holds: {len(found.faults)}.")
            sys.exit(1)
        if found.checkpoint is not None:
            self.say(
                f"Checkpoint {found.checkpoint.pk} is made, of all transactions below {found.checkpoint.below_xid}."
            )
        if verification.counters_exist():
            self.stdout.write("Every counter is what the ledger and the holds say.")
        else:
            self.stdout.write("There is no counter to verify: no call has used a budget or a limit yet.")
