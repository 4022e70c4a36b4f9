from __future__ import annotations

from typing import Any

from keys import issuing, keyring
from keys.commands import GatewayCommand

FROM_ENVIRONMENT = """\
PEPPERS comes from the environment, so a new one is yours to add:
  1. make one: python -c "import secrets; print(secrets.token_hex(32))"
  2. put it first in PEPPERS, before a comma, on every machine, and restart."""

REST = """\
{count} working credentials rest on older peppers, and go on working while these are in the list; they move to the \
newest one when they are rotated."""


class Command(GatewayCommand):
    help = "Store credentials under a new pepper from now on; those that exist go on working under theirs."

    def handle(self, **options: Any) -> None:
        if keyring.in_environment("peppers"):
            self.say(FROM_ENVIRONMENT)
        else:
            self.say(f"Added a pepper to {issuing.rotate_pepper()}.")
        self.say(REST.format(count=issuing.stale_credentials()))
