"""manage.py ready"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from django.core.management.base import CommandParser

from keys.commands import GatewayCommand
from usage import readiness


class Command(GatewayCommand):
    help = (
        "Say whether a role can do its work: what /health/ready checks, for processes that don't listen. "
        "Exits with 1 if it can't."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role", choices=readiness.ROLES, help="worker and beat are those of this host")

    def handle(self, *args: Any, **options: Any) -> None:
        found = asyncio.run(readiness.ask(options["role"]))
        for check in found.checks:
            outcome = "ok" if check.ok else check.says
            reported = "" if check.counts or check.ok else " (does not count)"
            self.stdout.write(f"{check.name:12}{check.milliseconds:8.1f} ms  {outcome}{reported}")
        if not found.ready:
            self.say(f"The role {found.role} is not ready.")
            sys.exit(1)
