from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from keys import commands, issuing


class Command(commands.GatewayCommand):
    help = (
        "Issue a token for a person or service that calls as a virtual key: prints it, alone on a line, on stdout. "
        "It is shown this once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="who or what the token is for")
        parser.add_argument("--virtual-key", required=True, metavar="NAME", help="the virtual key that it calls as")

    def handle(self, **options: Any) -> None:
        self.stdout.write(issuing.issue_gateway_token(options["name"], commands.virtual_key(options["virtual_key"])))
