"""manage.py replay_spool"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from usage import spool


class Command(BaseCommand):
    help = "Write spooled settlements to the ledger. Starting the gateway does the same."

    def handle(self, *args: Any, **options: Any) -> None:
        verdicts = spool.replay()
        if not verdicts:
            self.stdout.write("Nothing is spooled.")
        for verdict, count in sorted(verdicts.items()):
            self.stdout.write(f"{count} {verdict}")
