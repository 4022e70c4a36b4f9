"""What `apply` and the commands that import other gateways' files share: the plan, and the file of new secrets."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from administration.deployment import applying, declared, one_time_file
from administration.deployment.foreign import Imported
from keys.commands import GatewayCommand
from keys.errors import Unusable

MOST_BYTES = 50 * 1024 * 1024


class DeploymentCommand(GatewayCommand):
    """The base class of commands that change a deployment to what a file says."""

    def add_common(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--dry-run", action="store_true", help="print the plan, and change nothing")
        parser.add_argument(
            "--secrets", metavar="FILE", type=Path, help="a new file (mode 0600) for the secrets of new virtual keys"
        )

    def carry_out(
        self, deployment: declared.Deployment, options: dict[str, Any], *, prune: bool = False, apart: bool = False
    ) -> list[str]:
        """Apply it and print the plan. Returns what could not be made; only with `apart` there is such.

        Raises:
            Unusable: with the place in the file; nothing was changed.
        """
        # The file is written before the commit, and taken away again if the commit fails.
        with ExitStack() as stack, transaction.atomic():
            plan = applying.apply(deployment, prune=prune, apart=apart)
            if options["dry_run"]:
                transaction.set_rollback(True)
            elif plan.secrets:
                stack.enter_context(one_time_file.kept(self.file_for(plan, options["secrets"]), plan.secrets))
        for line in plan.lines:
            self.stdout.write(line)
        if not plan.lines:
            self.say("Nothing to change.")
        elif options["dry_run"]:
            self.say("Nothing was changed: this is a dry run.")
        return plan.refused

    def file_for(self, plan: applying.Plan, path: Path | None) -> Path:
        """The file for the secrets of new keys.

        Raises:
            Unusable: none was named.
        """
        count = len(plan.secrets)
        if path is None:
            raise Unusable(
                f"new virtual keys: {count}; name a new file for their secrets by --secrets FILE, or try --dry-run"
            )
        self.say(f"New virtual keys: {count}. Their secrets are in {path}: hand them out, then delete the file.")
        return path


class ImportCommand(DeploymentCommand):
    """The base class of commands that take over another gateway's configuration."""

    def add_import(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--customer", default="Imported", metavar="NAME", help="who pays for keys without a customer there"
        )
        parser.add_argument(
            "--loosen",
            action="store_true",
            help="make also keys whose restrictions Bursar can't express, without these restrictions",
        )
        self.add_common(parser)

    def take_over(self, imported: Imported, options: dict[str, Any]) -> None:
        """Apply it, and say what could not be taken over. A key with a fault doesn't stop the others."""
        for what in (*imported.left_out, *self.carry_out(imported.deployment, options, apart=True)):
            self.say(f"Not taken over: {what}")


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        Unusable: it can't be read, or is no JSON.
    """
    try:
        return json.loads(read_file(path))
    except (ValueError, RecursionError):
        raise Unusable(f"{path} is no JSON") from None


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        Unusable: it can't be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Unusable(f"{path} can't be read: {error.strerror}") from None
    if len(text) > MOST_BYTES:
        raise Unusable(f"{path} is larger than {MOST_BYTES} bytes")
    return text
