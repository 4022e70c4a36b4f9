from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from keys import commands, customers, issuing
from keys.errors import Unusable
from keys.models import Customer, ProviderKey


class Command(commands.GatewayCommand):
    help = (
        "Issue a virtual key: prints it, alone on a line, on stdout. It is shown this once. "
        "Example: manage.py issue_virtual_key ci --customer Acme --team Platform --models 'claude-*'"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="what to call it here")
        parser.add_argument("--customer", default="", help="who pays; added if new; default: the only one there is")
        parser.add_argument("--team", default="", help="a team of the customer; added if new")
        parser.add_argument("--owner", default="", help="the person or service that answers for it")
        many: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
        parser.add_argument(
            "--provider-key",
            **many,
            metavar="NAME[:WEIGHT]",
            help="a provider key that it maps to, and its share of the calls; default: every active one, equally",
        )
        parser.add_argument("--models", **many, metavar="PATTERN", help="models that it may use; default: all")
        parser.add_argument("--deny-models", **many, metavar="PATTERN", help="models that it may not use")
        parser.add_argument("--label", **many, metavar="NAME=VALUE", help="carried by its rows in the ledger")
        parser.add_argument("--expires", metavar="ISO8601", help="when it ends; UTC unless it says otherwise")

    def handle(self, **options: Any) -> None:
        customer, plain = self.issue(**options)
        if not options["customer"]:
            self.say(f"“{options['name']}” is the customer “{customer}”'s.")
        if not options["provider_key"]:
            self.say("It maps to every active provider key.")
        self.stdout.write(plain)

    @transaction.atomic
    def issue(self, **options: Any) -> tuple[Customer, str]:
        customer, team = customers.find_or_add(options["customer"], options["team"])
        _, plain = issuing.issue_virtual_key(
            name=options["name"],
            customer=customer,
            team=team,
            owner=options["owner"],
            provider_keys=[commands.route(text) for text in options["provider_key"]] or every_provider_key(),
            allowed_models=options["models"],
            denied_models=options["deny_models"],
            expires_at=commands.moment(options["expires"]) if options["expires"] else None,
            labels=commands.labels(options["label"]),
        )
        return customer, plain


def every_provider_key() -> list[tuple[ProviderKey, int]]:
    """The active ones, in equal shares.

    Raises:
        Unusable: there is none.
    """
    found = ProviderKey.objects.filter(active=True)
    if not found:
        raise Unusable("there is no active provider key yet: add one with add_provider_key")
    return [(provider_key, 1) for provider_key in found]
