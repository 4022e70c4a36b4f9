"""manage.py backup"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from gateway_project.operations import backing_up, running
from gateway_project.operations.commands import OperatorsCommand

WITHOUT_SECRETS = (
    "The archive has no secrets: without peppers and master keys its keys can't be opened. Write them too with "
    "--secrets FILE, or keep VAR_DIR/secrets elsewhere, apart from the archive."
)


class Command(OperatorsCommand):
    help = (
        "Write a backup of this deployment, while it runs: the database, the spool, the seals of the audit log and the "
        "files of archived months, in one sealed file. Secrets are never in it. docs/backup.md has the details."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("to", type=Path, metavar="TO", help="the file to write; one that exists is never replaced")
        parser.add_argument(
            "--secrets", type=Path, metavar="FILE", help="write the secrets to this file (mode 0600); keep it elsewhere"
        )
        parser.add_argument(
            "--programs", type=Path, metavar="FOLDER", help="use pg_dump in this folder, for a server newer than ours"
        )
        parser.add_argument(
            "--without-months", action="store_true", help="leave out ARCHIVE_DIR, where it has backups of its own"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        secrets = options["secrets"]
        with running.the_database(self.say):
            backing_up.back_up(
                options["to"], secrets, options["programs"], self.say, months=not options["without_months"]
            )
        self.say(f"The secrets are in {secrets}: keep it apart from the archive." if secrets else WITHOUT_SECRETS)
