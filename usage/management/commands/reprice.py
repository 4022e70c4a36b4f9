"""manage.py reprice"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from keys import commands
from keys.audit.notes import note
from usage import price_runs, repricing
from usage.management.commands.top_up import system_user_name


class Command(commands.GatewayCommand):
    help = (
        "Price recorded calls again, by the own prices that are in force now and the list prices of each call's time. "
        "Without --yes, it only says what would change. Example: manage.py reprice --since 2026-11-01 --reason contract"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        price_runs.add_arguments(parser)
        parser.add_argument("--reason", required=True, help="the reason; stored with each adjustment permanently")
        parser.add_argument(
            "--author", default="", help="the author to record; default: the user who runs this command"
        )
        parser.add_argument("--as-then", action="store_true", help="by the own prices that were in force at each call")
        parser.add_argument("--yes", action="store_true", help="write the adjustments")

    def handle(self, **options: Any) -> None:
        rows = price_runs.which(options).rows()
        prices = repricing.Prices(timezone.now(), as_then=options["as_then"])
        if options["yes"]:
            author = options["author"] or system_user_name()
            outcome = repricing.reprice(rows, prices, reason=options["reason"], author=author)
            note(
                "repriced",
                "usage_ledgerentry",
                since=options["since"],
                until=options["until"],
                calls=outcome.total.calls,
            )
        else:
            outcome = repricing.preview(rows, prices)
        for line in price_runs.in_words(outcome):
            self.stdout.write(line)
        calls = outcome.total.calls
        if options["yes"]:
            self.say(f"{calls:,} adjustments are written.")
        elif calls:
            self.say("Nothing is written. Give --yes to write these adjustments.")
