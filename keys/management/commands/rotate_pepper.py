from __future__ import annotations

from typing import Any

from keys import issuing, keyring
from keys.commands import GatewayCommand

FROM_ENVIRONMENT = """\
PEPPERS comes from the environment, so only you can add a new pepper:
  1. create one: python -c "import secrets; print(secrets.token_hex(32))"
  2. put it first in PEPPERS, before a comma, on every machine, and restart."""

REST = """\
Working credentials that use older peppers: {count}. They keep working while these peppers are in the list, and get \
the newest one when they are rotated."""


class Command(GatewayCommand):
    help = "Add a pepper, under which new credentials are stored. Existing credentials keep working under theirs."

    def handle(self, **options: Any) -> None:
        if keyring.in_environment("peppers"):
            self.say(FROM_ENVIRONMENT)
        else:
            self.say(f"Added a pepper to {issuing.rotate_pepper()}.")
        self.say(REST.format(count=issuing.stale_credentials()))
