"""manage.py close_month"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from administration.statements import mails
from billing import closing, drafts, months
from billing.formats import pdf
from billing.models import Closing, Particulars
from keys import commands
from keys.errors import Unusable
from keys.models import Customer
from usage.management.commands.top_up import system_user_name


class Command(commands.GatewayCommand):
    help = (
        "Close a month of a customer, or of all customers with billing particulars: issue their statements. Without "
        "--yes, it only says what they would say. Example: manage.py close_month 2026-10 --customer Acme --yes"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("month", metavar="YYYY-MM", help="the month")
        parser.add_argument("--customer", metavar="NAME", help="only this customer")
        parser.add_argument("--yes", action="store_true", help="close it")
        parser.add_argument("--author", default="", help="who closes it; default: the user who runs this command")
        parser.add_argument(
            "--leave-earlier",
            action="store_true",
            help="for first statements: calls before them are billed elsewhere, and stay on no statement",
        )

    def handle(self, **options: Any) -> None:
        month = months.parse(options["month"])
        asked = customers(options["customer"])
        left = [each for each in asked if options["customer"] is not None or not is_done(each, month)]
        if not left:
            why = (
                "no customer has calls in it that are on no statement"
                if asked
                else "no customer has billing particulars"
            )
            self.say(f"There is nothing to close in {options['month']}: {why}.")
            return
        for customer in left:
            if options["yes"]:
                self.close(customer, month, options)
                continue
            found = drafts.compute(customer, month)
            for each in found.drafts:
                whose = f"{customer} / {each.team.name}" if each.team else str(customer)
                self.stdout.write(f"{whose}: {each.total} {each.currency}, {each.total_usd.normalize():f} USD")
            for sentence in found.missing:
                self.stdout.write(f"{customer}: {sentence}")
        if not options["yes"]:
            self.say("Nothing is closed. Give --yes to close these months.")

    def close(self, customer: Customer, month: Any, options: dict[str, Any]) -> None:
        """Close the month of a customer, and say what was issued."""
        issued = closing.close(
            customer,
            month,
            by=options["author"] or system_user_name(),
            make_files=pdf.make,
            leave_earlier=options["leave_earlier"],
        )
        for each in issued:
            self.stdout.write(f"{customer}: {each.number}, {each.total} {each.currency}")
        if not issued:
            self.stdout.write(f"{customer}: it closes when another person confirms it")
        mails.send(issued)


def customers(name: str | None) -> list[Customer]:
    """The customer of this name, or all with billing particulars.

    Raises:
        Unusable: there is no such customer.
    """
    if name is None:
        return [each.customer for each in Particulars.objects.select_related("customer").order_by("customer__name")]
    found = Customer.objects.filter(name=name).first()
    if found is None:
        raise Unusable(f"there is no customer “{name}”")
    return [found]


def is_done(customer: Customer, month: Any) -> bool:
    """Whether there is nothing to close for a customer that was not named: the month is closed, or has no calls."""
    if Closing.objects.filter(customer=customer, month__gte=month).exists():
        return True
    period = drafts.period_of(customer, month)
    return period.ends_at <= timezone.now() and not drafts.compute(customer, month).drafts
