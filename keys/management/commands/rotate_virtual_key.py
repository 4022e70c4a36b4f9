from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from keys import commands, issuing, virtual_keys


class Command(commands.GatewayCommand):
    help = (
        "Create a new secret for a virtual key. The secret is printed on stdout, alone on a line. It can't be shown "
        "again. The old secret keeps working for the overlap."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "name",
            metavar="NAME",
            help=f"the virtual key: {virtual_keys.SAID}",
        )
        parser.add_argument(
            "--overlap",
            default="24h",
            help="how long the old secret keeps working: 0, 90s, 15m, 24h, 7d (default: 24h)",
        )

    def handle(self, **options: Any) -> None:
        overlap = commands.duration(options["overlap"])
        self.stdout.write(issuing.rotate(virtual_keys.find(options["name"]), overlap))
        self.say(
            f"The old secret works for another {options['overlap']}." if overlap else "The old secret has expired."
        )
