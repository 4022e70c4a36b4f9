"""manage.py evidence_pack"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from billing import evidence
from billing.models import Statement
from keys import commands
from keys.audit.notes import note
from keys.errors import Unusable


class Command(commands.GatewayCommand):
    help = (
        "Write the evidence pack of a statement or credit note, a zip for auditors. Example: manage.py evidence_pack "
        "ACME-00001 --output ACME-00001.evidence.zip"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("number", metavar="NUMBER", help="the number of the document")
        parser.add_argument("--output", metavar="FILE", required=True, help="the file, which must not exist yet")

    def handle(self, **options: Any) -> None:
        statement = Statement.objects.select_related("closing", "corrects").filter(number=options["number"]).first()
        if statement is None:
            raise Unusable(f"there is no document “{options['number']}”")
        try:
            with Path(options["output"]).open("xb") as file, evidence.make(statement, names=True) as pack:
                shutil.copyfileobj(pack, file)
        except OSError as error:
            raise Unusable(f"{options['output']} can't be written: {error.strerror}") from None
        note("exported", Statement._meta.db_table, str(statement.pk), number=statement.number, file="evidence.zip")
        self.say(f"{options['output']} is written.")
