"""manage.py restore"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from gateway_project.operations import restoring, running, secrets_file
from gateway_project.operations.backing_up import Progress
from gateway_project.operations.commands import OperatorsCommand
from keys.errors import Unusable

RESTORED = (
    "Restored. This copy takes no calls and does no periodic work. Once the old gateway is gone for good, run "
    "`manage.py restore --activate`."
)


class Command(OperatorsCommand):
    help = (
        "Restore a backup into an empty database and empty folders; where anything is, it is refused. The copy takes "
        "no calls until --activate. Exits with 1 if ledger, audit log or secrets of the copy are wrong."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", type=Path, nargs="?", metavar="FROM", help="the file that `backup` has written")
        parser.add_argument("--secrets", type=Path, metavar="FILE", help="the file that `backup --secrets` has written")
        parser.add_argument("--programs", type=Path, metavar="FOLDER", help="use pg_restore and psql in this folder")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--check", action="store_true", help="only compare the archive with its seal and its hashes")
        what.add_argument(
            "--activate", action="store_true", help="take calls from now on: the old gateway is gone for good"
        )
        what.add_argument(
            "--mend",
            action="store_true",
            help="after loading a dump by other means: go on with its numbers of transactions, and wait for --activate",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        source, alone = options["source"], options["activate"] or options["mend"]
        if alone and source is not None:
            raise Unusable("--activate and --mend are about this deployment's database: they take no file")
        if source is None and not alone:
            raise Unusable("expected the file of a backup, or --activate or --mend")
        if options["check"]:
            self.compare(source, options["secrets"])
            return
        with running.the_database(self.say, made=not alone):
            if options["activate"]:
                restoring.activate(self.say)
                self.say("This gateway takes calls from now on.")
                return
            if options["mend"]:
                restoring.mend(self.say)
                wrong = restoring.check(self.say)
            else:
                wrong = restoring.restore(source, options["secrets"], options["programs"], self.say)
        for line in wrong:
            self.stdout.write(line)
        self.say(RESTORED)
        if wrong:
            self.say(f"Wrong with the copy: {len(wrong)}.")
            sys.exit(1)

    def compare(self, source: Path, secrets: Path | None) -> None:
        """Say whether the archive is as it was sealed."""
        lists = secrets_file.read(secrets) if secrets is not None else None
        opened = restoring.open_archive(source, lists)
        opened.check(Progress(self.say, "Checked"))
        about = opened.manifest
        self.stdout.write(
            f"{source} is as it was sealed: {len(opened.parts)} parts, made at {about['made_at']} by version "
            f"{about['version']} from PostgreSQL {about['postgresql']}."
        )
