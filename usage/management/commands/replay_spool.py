"""manage.py replay_spool"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from keys.commands import GatewayCommand
from usage import spool


class Command(GatewayCommand):
    help = "Write the settlements in the spool to the ledger. The gateway also does this when it starts."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            verdicts = spool.replay()
        except OSError as error:
            raise CommandError(f"the spool folder (SPOOL_DIR) can't be used: {error.strerror}", returncode=2) from None
        if not verdicts:
            self.stdout.write("The spool is empty.")
        for verdict, count in sorted(verdicts.items()):
            self.stdout.write(f"{count} {verdict}")
