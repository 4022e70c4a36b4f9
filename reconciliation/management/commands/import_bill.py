"""manage.py import_bill"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management import CommandParser

from keys.commands import GatewayCommand
from keys.errors import Unusable
from reconciliation import bills
from reconciliation.sources import BillFormat
from usage.management.commands.top_up import system_user_name
from usage.price_runs import exact


class Command(GatewayCommand):
    help = "Take a file of a cloud's bill (CSV) and compare its days with the ledger. The same file is taken once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--format", required=True, metavar="NAME", help="a bill format, as the admin lists them")

    def handle(self, **options: Any) -> None:
        found = BillFormat.objects.filter(name=options["format"]).first()
        if found is None:
            raise Unusable(f"there is no bill format “{options['format']}”: see Bill formats in the admin")
        try:
            with options["file"].open("rb") as file:
                bill = bills.take(found, options["file"].name, file, author=system_user_name())
        except OSError as error:
            raise Unusable(f"the file can't be read: {error.strerror}") from None
        self.stdout.write(
            f"{bill.lines:,} lines, {bill.first_day} to {bill.last_day}: ${exact(bill.amount)}, of which "
            f"${exact(sum((amount for _, amount in bills.unmapped(bill)), bill.amount * 0))} isn't mapped."
        )
