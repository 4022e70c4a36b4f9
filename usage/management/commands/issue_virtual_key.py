from __future__ import annotations

from functools import partial
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from keys import commands, customers, issuing
from keys.errors import Unusable
from keys.models import Customer, VirtualKey
from usage import budget_terms, new_keys
from usage.budget_terms import RATE_OPTIONS, LimitTerms
from usage.limits import Limit
from usage.standing import at_once


class Command(commands.GatewayCommand):
    help = (
        "Issue a virtual key and print it, alone on a line, on stdout. It is shown only once. "
        "Example: manage.py issue_virtual_key ci --customer Acme --team Platform --models 'claude-*' "
        "--budget 100/month 5000000tokens/day/soft --rpm 60 --parallel 8"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the key's name in the gateway")
        parser.add_argument(
            "--customer", default="", help="the customer that pays; created if new; default: the only customer"
        )
        parser.add_argument("--team", default="", help="a team of the customer; created if new")
        parser.add_argument("--owner", default="", help="the person or service responsible for the key")
        many: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
        parser.add_argument(
            "--provider-key",
            **many,
            metavar="NAME[:WEIGHT]",
            help="a provider key that the key uses, and its share of the calls; default: every active one, equally",
        )
        parser.add_argument("--models", **many, metavar="PATTERN", help="models that the key may use; default: all")
        parser.add_argument("--deny-models", **many, metavar="PATTERN", help="models that the key may not use")
        parser.add_argument("--fallback-models", **many, metavar="MODEL", help="models to fail over to, in this order")
        parser.add_argument(
            "--adaptive-weights",
            action="store_true",
            help="send fewer conversations to provider keys that are slow or fail often",
        )
        parser.add_argument("--max-tokens", metavar="N", help="refuse calls that ask for more max_tokens")
        parser.add_argument("--default-max-tokens", metavar="N", help="max_tokens for calls that don't set it")
        parser.add_argument("--label", **many, metavar="NAME=VALUE", help="a label for the key's rows in the ledger")
        parser.add_argument("--expires", metavar="ISO8601", help="when the key expires; UTC unless it has an offset")
        parser.add_argument(
            "--budget",
            **many,
            metavar="AMOUNT/PERIOD[/KIND]",
            help="a budget of the key: 100/month, 5000000tokens/day, 20/week/soft; see set_budget",
        )
        for kind, option in RATE_OPTIONS.items():
            parser.add_argument(option, metavar="N", help=f"at most N {kind.label}")

    def handle(self, **options: Any) -> None:
        customer, plain, limits = self.issue(**options)
        if not options["customer"]:
            self.say(f"“{options['name']}” belongs to the customer “{customer}”.")
        if not options["provider_key"]:
            self.say("It uses every active provider key.")
        for limit in limits:
            if burst := at_once(limit):
                self.say(f"{limit}, {burst:,} at once.")
        self.stdout.write(plain)

    @transaction.atomic
    def issue(self, **options: Any) -> tuple[Customer, str, list[Limit]]:
        budgets = [budget_terms.parse(text) for text in options["budget"]]
        if len({(terms.unit, terms.period) for terms in budgets}) < len(budgets):
            raise Unusable("--budget: two budgets have the same period; name each period once")
        paces = [
            LimitTerms(kind, budget_terms.parse_rate(rate, option))
            for kind, option in RATE_OPTIONS.items()
            if (rate := options[option.removeprefix("--").replace("-", "_")]) is not None
        ]
        customer, team = customers.find_or_add(options["customer"], options["team"])
        virtual_key = VirtualKey(
            name=options["name"],
            customer=customer,
            team=team,
            owner=options["owner"],
            allowed_models=options["models"],
            denied_models=options["deny_models"],
            fallback_models=options["fallback_models"],
            adaptive_weights=options["adaptive_weights"],
            max_tokens=commands.whole_number(options["max_tokens"]),
            default_max_tokens=commands.whole_number(options["default_max_tokens"]),
            expires_at=commands.moment(options["expires"]) if options["expires"] else None,
            labels=commands.labels(options["label"]),
        )
        issued = new_keys.issue(
            virtual_key,
            [commands.route(text) for text in options["provider_key"]] or issuing.all_routes(),
            budgets=[partial(budget_terms.put, terms=terms) for terms in budgets] or None,
            limits=[partial(budget_terms.put_limit, pace=pace) for pace in paces],
        )
        return customer, issued.plain, issued.limits
