"""manage.py verify_ledger"""

from __future__ import annotations

import sys
from typing import Any

from keys.commands import GatewayCommand
from usage import verification


class Command(GatewayCommand):
    help = "Recompute every counter of budgets and limits from the ledger and the holds. Exits with 1 if one differs."

    def handle(self, *args: Any, **options: Any) -> None:
        differences = verification.verify()
        for difference in differences:
            self.stdout.write(str(difference))
        if differences:
            self.say(f"Counters that differ from the ledger and the holds: {len(differences)}.")
            sys.exit(1)
        if verification.counters_exist():
            self.stdout.write("Every counter is what the ledger and the holds say.")
        else:
            self.stdout.write("There is no counter to verify: no call has used a budget or a limit yet.")
