from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from keys import commands, issuing, virtual_keys


class Command(commands.GatewayCommand):
    help = (
        "Issue a gateway token, with which a person or service calls as a virtual key. The token is printed on stdout, "
        "alone on a line. It can't be shown again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the person or service that gets the token")
        parser.add_argument(
            "--virtual-key",
            required=True,
            metavar="NAME",
            help=f"the virtual key that the token calls as: {virtual_keys.SAID}",
        )

    def handle(self, **options: Any) -> None:
        self.stdout.write(issuing.issue_gateway_token(options["name"], virtual_keys.find(options["virtual_key"])))
