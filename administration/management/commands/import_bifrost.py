"""manage.py import_bifrost"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from administration.deployment import bifrost
from administration.deployment.commands import ImportCommand, read_json


class Command(ImportCommand):
    help = (
        "Take over Bifrost's config.json: customers, teams, virtual keys with new secrets, budgets, rate limits and "
        "provider keys. It prints what it changes and what it could not take over."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="CONFIG.JSON")
        self.add_import(parser)

    def handle(self, **options: Any) -> None:
        self.take_over(
            bifrost.read(read_json(options["file"]), os.environ, options["customer"], loosen=options["loosen"]), options
        )
