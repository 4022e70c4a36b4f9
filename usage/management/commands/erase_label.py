"""manage.py erase_label"""

from __future__ import annotations

from typing import Any

from django.core.management import CommandParser
from django.core.management.base import CommandError

from keys.commands import GatewayCommand
from keys.errors import Unusable
from keys.models import Customer
from usage import archive_rewriting, archived, label_erasure
from usage.label_erasure import Label


class Command(GatewayCommand):
    help = (
        "Erase a label, such as a user's id or e-mail address, from ledger rows, adjustments, holds, roll-ups and "
        "archives. No sum changes. Without --yes, only say how much has it. Example: manage.py erase_label user "
        "ada@example.com --yes"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the label's name")
        parser.add_argument("value", metavar="VALUE", nargs="?", help="only where it has this value; default: all")
        parser.add_argument("--customer", metavar="NAME", help="only from calls of this customer")
        parser.add_argument("--yes", action="store_true", help="erase it")

    def handle(self, *args: Any, **options: Any) -> None:
        label = Label(options["name"], options["value"], customer(options["customer"]))
        if not options["yes"]:
            found = label_erasure.count(label)
            counted = f"{found.rows:,} ledger rows, {found.adjustments:,} adjustments and {found.holds:,} holds"
            self.stdout.write(f"{counted} have the label.")
            if months := archived.months():
                self.say(f"{archived.in_words(months)}: their files are searched when it is erased.")
            if keys := label.keys().count():
                self.say(f"{keys:,} virtual keys have it still: remove it from them first.")
            self.say("Nothing is erased: repeat the command with --yes.")
            return
        done, left = archive_rewriting.erase(label)
        self.stdout.write(f"Erased from {done.in_words()}.")
        self.say("Closed statements, evidence packs and the audit log keep what they say. So do copies of archives.")
        for each in left:
            self.say(f"Not reached: {each}")
        if left:
            raise CommandError("Some archives have the label still: bring their files back, and repeat the command.")


def customer(name: str | None) -> Customer | None:
    """The customer of this name.

    Raises:
        Unusable: there is no such customer.
    """
    if name is None:
        return None
    if (found := Customer.objects.filter(name=name).first()) is None:
        raise Unusable(f"there is no customer “{name}”")
    return found
