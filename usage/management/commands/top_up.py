"""manage.py top_up"""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import CommandParser

from keys import commands
from usage import budget_terms, owners
from usage.management import arguments


class Command(commands.GatewayCommand):
    help = (
        "Add to the prepaid balance of a customer, a team or a virtual key; a negative amount reduces it. "
        "Example: manage.py top_up customer:Acme 500 --reason 'invoice 2027-014'"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_owner(parser)
        parser.add_argument("amount", metavar="AMOUNT", help="USD, or tokens with --tokens")
        parser.add_argument("--reason", required=True, help="the reason; stored with the top-up permanently")
        parser.add_argument(
            "--author", default="", help="the author to record; default: the user who runs this command"
        )
        parser.add_argument("--tokens", action="store_true", help="top up the balance in tokens")

    def handle(self, **options: Any) -> None:
        top_up = budget_terms.top_up(
            owners.find(options["owner"]),
            budget_terms.parse_amount(options["amount"], signed=True),
            tokens=options["tokens"],
            reason=options["reason"],
            author=options["author"] or system_user_name(),
        )
        self.stdout.write(str(top_up.budget))


def system_user_name() -> str:
    """The operating system's name of the user; `manage.py` if the user id has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "manage.py"
