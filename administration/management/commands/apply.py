"""manage.py apply"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from administration.deployment import declared, reading
from administration.deployment.commands import DeploymentCommand, read_file
from keys.errors import Unusable


class Command(DeploymentCommand):
    help = (
        "Make the deployment what a YAML file says: customers, teams, virtual keys, budgets, limits, provider keys and "
        "aliases. It prints what it changes, all in one transaction; a second run changes nothing. What the file "
        "doesn't name stays. docs/rest.md shows a file. Example: manage.py apply -f keys.yaml --dry-run"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("-f", "--file", required=True, type=Path, metavar="FILE", help="the file")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="revoke virtual keys, remove budgets and limits, and deactivate provider keys that aren't in the file",
        )
        self.add_common(parser)

    def handle(self, **options: Any) -> None:
        path: Path = options["file"]
        try:
            deployment = declared.read(reading.read(read_file(path)))
            self.carry_out(deployment, options, prune=options["prune"])
        except Unusable as error:
            raise Unusable(f"{path}: {error}" if str(error).startswith("line ") else str(error)) from None
