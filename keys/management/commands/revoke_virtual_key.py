from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from keys import commands, issuing, virtual_keys


class Command(commands.GatewayCommand):
    help = "Revoke a virtual key permanently. Every process refuses its calls from now on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "name",
            metavar="NAME",
            help=f"the virtual key: {virtual_keys.SAID}",
        )
        parser.add_argument("--cut-streams", action="store_true", help="also end its open streams")
        parser.add_argument("--reason", default="", metavar="TEXT", help="why; it is kept with the key")

    def handle(self, **options: Any) -> None:
        virtual_key = virtual_keys.find(options["name"])
        before = virtual_key.revoked_at
        issuing.revoke_once(virtual_key, options["cut_streams"], options["reason"])
        done = f"“{virtual_key}” was already revoked on {before:%Y-%m-%d}." if before else f"Revoked “{virtual_key}”."
        self.say(f"{done} Its open streams end now." if options["cut_streams"] else done)
