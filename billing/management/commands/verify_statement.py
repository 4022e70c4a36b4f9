"""manage.py verify_statement"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from billing import verification
from billing.models import Issuer, Statement
from keys import commands
from keys.errors import Unusable


class Command(commands.GatewayCommand):
    help = (
        "Verify issued statements and credit notes: their hashes, the chain of their issuer, its numbers, their sums "
        "and files, and the ledger rows that they cover. Exit code 1: something differs. Example: manage.py "
        "verify_statement ACME-00001"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("numbers", nargs="*", metavar="NUMBER", help="the numbers of documents; default: all")

    def handle(self, **options: Any) -> None:
        rows = Statement.objects.select_related("issuer", "closing", "corrects").order_by("issuer", "sequence")
        numbers = options["numbers"]
        if unknown := sorted(set(numbers) - set(rows.filter(number__in=numbers).values_list("number", flat=True))):
            raise Unusable(f"there is no document “{unknown[0]}”")
        wrong = 0
        for statement in (rows.filter(number__in=numbers) if numbers else rows).iterator(chunk_size=50):
            faults = verification.verify(statement)
            wrong += bool(faults)
            self.stdout.write(f"{statement.number}: {'it is as it was issued' if not faults else ' '.join(faults)}")
        if not numbers:
            others = [fault for each in Issuer.objects.order_by("prefix") for fault in verification.verify_issuer(each)]
            others += verification.verify_covers()
            wrong += len(others)
            for fault in others:
                self.stdout.write(fault)
        if not (numbers or wrong or rows.exists()):
            self.say("There is no statement to verify: none was issued yet.")
        if wrong:
            raise CommandError("What is stored differs from what was issued.", returncode=1)
