"""manage.py reconcile"""

from __future__ import annotations

from datetime import date
from typing import Any

from django.core.management import CommandParser
from django.db.models import Sum
from django.utils import timezone

from keys.commands import GatewayCommand
from keys.errors import Unusable
from reconciliation import comparing, running
from reconciliation.comparisons import CAUSES, Comparison
from reconciliation.reading import DayRead, Run
from reconciliation.reads import Read
from reconciliation.sources import AdminKey
from usage.price_runs import exact


class Command(GatewayCommand):
    help = (
        "Read the usage and cost reports of providers since a day (UTC), as much as is due, and compare them with the "
        "ledger. Days whose figures are final are not read again. Example: manage.py reconcile --since 2026-11-01"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", type=date.fromisoformat, metavar="DAY", required=True, help="the first day")
        parser.add_argument("--admin-key", metavar="NAME", help="only with this admin key")
        parser.add_argument("--compare-only", action="store_true", help="read nothing; compare what was read again")

    def handle(self, **options: Any) -> None:
        since: date = options["since"]
        if since > timezone.now().date():
            raise Unusable("--since is in the future: give an earlier day")
        rows = AdminKey.objects.filter(active=True)
        if options["admin_key"] is not None:
            rows = AdminKey.objects.filter(name=options["admin_key"])
            if not rows.exists():
                raise Unusable(f"there is no admin key “{options['admin_key']}”: see Admin keys in the admin")
        if not rows.exists():
            raise Unusable("there is no active admin key: add one in the admin, under Providers")
        for admin_key in rows:
            self.one(admin_key, since, read=not options["compare_only"])

    def one(self, admin_key: AdminKey, since: date, *, read: bool) -> None:
        """Read and compare with one admin key, with a line for each day."""
        self.say(f"{admin_key}:")
        if read:
            try:
                problem = running.run(admin_key, Run(since=since, tell=self.tell))
            except running.Busy:
                raise Unusable(f"“{admin_key}” is switched off, or another worker reads with it now") from None
            if problem:
                self.say(f"  reading ended early: {problem}")
        else:
            days = days_of(admin_key, since)
            comparing.compare_days(admin_key, days, lambda day, count: self.say(f"  {day}: {count} compared"))
        rows = Comparison.objects.filter(admin_key=admin_key, start__date__gte=since, provider_key__isnull=False)
        sums = rows.aggregate(**{name: Sum(name) for name in ("theirs", "ours", *CAUSES, "unexplained")})
        if sums["theirs"] is None:
            self.stdout.write(f"{admin_key}: nothing to compare. Are its keys mapped to provider keys?")
            return
        said = ", ".join(f"{name.replace('_', ' ')} {exact(sums[name])}" for name in (*CAUSES, "unexplained"))
        difference = sums["theirs"] - sums["ours"]
        self.stdout.write(
            f"{admin_key}: theirs ${exact(sums['theirs'])}, ours ${exact(sums['ours'])}, difference "
            f"${exact(difference)}: {said}"
        )

    def tell(self, each: DayRead) -> None:
        """The progress of a run."""
        waiting = ", the rest isn't reported yet" if each.waiting else ""
        periods = f"{each.periods} {'period' if each.periods == 1 else 'periods'}"
        self.say(f"  {each.day} {each.report}: {periods} read, {each.changed} changed{waiting}")


def days_of(admin_key: AdminKey, since: date) -> set[date]:
    """The days of which there are figures."""
    return set(Read.objects.filter(admin_key=admin_key, start__date__gte=since).dates("start", "day"))
