from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from keys import commands, issuing, virtual_keys


class Command(commands.GatewayCommand):
    help = (
        "Issue a token for a person or service that calls as a virtual key: prints it, alone on a line, on stdout. "
        "It is shown this once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="who or what the token is for")
        parser.add_argument(
            "--virtual-key",
            required=True,
            metavar="NAME",
            help=f"the virtual key that it calls as: {virtual_keys.SAID}",
        )

    def handle(self, **options: Any) -> None:
        self.stdout.write(issuing.issue_gateway_token(options["name"], virtual_keys.find(options["virtual_key"])))
