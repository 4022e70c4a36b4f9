"""manage.py replay_spool"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from keys.commands import GatewayCommand
from usage import spool


class Command(GatewayCommand):
    help = "Write spooled settlements to the ledger. Starting the gateway does the same."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            verdicts = spool.replay()
        except OSError as error:
            raise CommandError(f"the spool folder can't be used: {error.strerror}", returncode=2) from None
        if not verdicts:
            self.stdout.write("Nothing is spooled.")
        for verdict, count in sorted(verdicts.items()):
            self.stdout.write(f"{count} {verdict}")
