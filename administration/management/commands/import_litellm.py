"""manage.py import_litellm"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from administration.deployment import litellm, reading
from administration.deployment.commands import ImportCommand, read_file, read_json


class Command(ImportCommand):
    help = (
        "Take over LiteLLM's config.yaml: its providers become provider keys, its model names aliases, and its virtual "
        "keys and teams (--keys, --teams) get new secrets. It prints what it changes and what it could not take over."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="CONFIG.YAML")
        parser.add_argument(
            "--keys", type=Path, metavar="FILE", help="the answer of GET /key/list?return_full_object=true"
        )
        parser.add_argument("--teams", type=Path, metavar="FILE", help="the answer of GET /team/list")
        self.add_import(parser)

    def handle(self, **options: Any) -> None:
        config = reading.read(read_file(options["file"])).plain()
        keys, teams = (read_json(options[each]) if options[each] else None for each in ("keys", "teams"))
        imported = litellm.read(config, os.environ, options["customer"], keys, teams, loosen=options["loosen"])
        self.take_over(imported, options)
