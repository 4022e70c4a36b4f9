"""manage.py verify_ledger"""

from __future__ import annotations

import sys
from typing import Any

from keys.commands import GatewayCommand
from usage import verification


class Command(GatewayCommand):
    help = "Recompute every counter of budgets and limits from the ledger and the holds. Exits 1 if one differs."

    def handle(self, *args: Any, **options: Any) -> None:
        differences = verification.verify()
        for difference in differences:
            self.stdout.write(str(difference))
        if differences:
            sys.exit(1)
        self.stdout.write("Every counter is what the ledger and the holds say.")
