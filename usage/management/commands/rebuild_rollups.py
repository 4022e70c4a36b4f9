"""manage.py rebuild_rollups"""

from __future__ import annotations

from datetime import date
from typing import Any

from django.core.management import CommandParser

from keys.commands import GatewayCommand
from keys.errors import Unusable
from usage import rollups


class Command(GatewayCommand):
    help = (
        "Compare the roll-ups, which reports and pages read, with the ledger, day by day (UTC), and sum each day that "
        "differs again. Reports show a day as it was until it is right. Calls go on meanwhile."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since", type=day, metavar="DAY", help="the first day, like 2026-11-01 (the first of all)"
        )
        parser.add_argument("--until", type=day, metavar="DAY", help="the last day, included (today)")

    def handle(self, *args: Any, **options: Any) -> None:
        since, until = options["since"], options["until"]
        if since and until and until < since:
            raise Unusable("--until is before --since: give a later day")
        days = mended = 0
        for each, found in rollups.rebuild(since, until):
            days += 1
            if found is None:
                self.say(f"{each}: right")
                continue
            mended += 1
            self.say(f"{each}: summed again ({found.cells} rows differed)")
            if found.ledger_cost != found.rolled_up_cost:
                self.say(f"    cost by the ledger {found.ledger_cost} USD, before {found.rolled_up_cost} USD")
        self.stdout.write(f"Compared {days} {'day' if days == 1 else 'days'} with the ledger; summed {mended} again.")


def day(text: str) -> date:
    """A day as people type it.

    Raises:
        ValueError: it isn't one; argparse then says which argument is wrong.
    """
    return date.fromisoformat(text)
