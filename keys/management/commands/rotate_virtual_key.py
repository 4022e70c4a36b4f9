from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from keys import commands, issuing, virtual_keys


class Command(commands.GatewayCommand):
    help = (
        "Give a virtual key a new secret: prints it, alone on a line, on stdout. It is shown this once. "
        "The old one goes on working for the overlap."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "name",
            metavar="NAME",
            help=f"the virtual key: {virtual_keys.SAID}",
        )
        parser.add_argument(
            "--overlap", default="24h", help="how long the old secret works: 0, 90s, 15m, 24h, 7d (default: 24h)"
        )

    def handle(self, **options: Any) -> None:
        overlap = commands.duration(options["overlap"])
        self.stdout.write(issuing.rotate(virtual_keys.find(options["name"]), overlap))
        self.say(f"The old secret works for {options['overlap']} more." if overlap else "The old secret has ended.")
