"""manage.py set_budget"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from keys import commands
from usage import budget_terms, owners
from usage.alerts import targets_for
from usage.budget_terms import Scope
from usage.management import arguments


class Command(commands.GatewayCommand):
    help = (
        "Create, change or remove a budget of a customer, a team or a virtual key. Options that you leave out keep "
        "their current values; running it twice changes nothing. Examples: manage.py set_budget team:Acme/Research "
        "100/month --thresholds 50,80,100; set_budget key:ci 5000000tokens/day/soft; set_budget customer:Acme "
        "0/prepaid, and then top_up; set_budget key:ci day --tokens --remove"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_owner(parser)
        parser.add_argument(
            "terms",
            metavar="AMOUNT/PERIOD[/KIND]",
            help=f"USD, or …tokens; a period is one of {', '.join(budget_terms.PERIODS)}; a kind is hard (refuses), "
            "soft (alerts) or expected (holds what similar calls cost lately)",
        )
        parser.add_argument("--tokens", action="store_true", help="the amount is in tokens")
        arguments.add_scope(parser)
        parser.add_argument(
            "--rolling", action="store_true", help="windows begin with the first use, not by the calendar"
        )
        parser.add_argument(
            "--thresholds", metavar="PERCENT,…", help="percentages at which to alert; empty to remove them all"
        )
        parser.add_argument("--remove", action="store_true", help="remove the budget; the amount may be left out")

    def handle(self, **options: Any) -> None:
        owner = owners.find(options["owner"])
        scope = Scope(options["rolling"], options["models"], commands.provider_key(options["provider_key"]))
        if options["remove"]:
            terms = budget_terms.parse_which(options["terms"], tokens=options["tokens"])
            removed = budget_terms.remove(owner, terms, scope)
            for budget in removed:
                self.stdout.write(f"Removed: {budget}{budget.particulars()}")
            if not removed:
                self.say("There is no such budget; nothing was changed.")
            return
        terms = budget_terms.parse(options["terms"], tokens=options["tokens"])
        thresholds = options["thresholds"]
        parsed = None if thresholds is None else budget_terms.parse_thresholds(thresholds)
        budget = budget_terms.put(owner, terms, scope, parsed)
        self.stdout.write(f"{budget}{budget.particulars()}")
        if parsed and not targets_for(budget.payer()).filter(active=True).exists():
            self.say(
                "Its alerts aren't sent: there is no active alert target. Add one in the admin, under Alert targets."
            )
