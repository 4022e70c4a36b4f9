"""manage.py verify_audit"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from keys.audit import seal_file, seals, verification
from keys.audit.models import AuditSeal
from keys.commands import GatewayCommand

# Events between two lines of progress.
STEP = 100_000


class Command(GatewayCommand):
    help = (
        "Check that the audit log is as it was sealed: compare each event with its seal, each seal with the one before "
        "it, and all seals with the file audit/seals in the data folder. Prints the first event or day that doesn't "
        "fit and exits with 1; exits with 0 if all fit. Events since the last seal are sealed afterwards."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-seal", action="store_true", help="don't seal the events since the last seal")

    def handle(self, *args: Any, **options: Any) -> None:
        shown = 0

        def progress(checked: int, seal: AuditSeal) -> None:
            nonlocal shown
            if checked >= shown + STEP:
                shown = checked
                self.say(f"{checked:,} events checked, up to {seal.made_at:%Y-%m-%d}.")

        try:
            events = verification.verify(progress)
        except verification.DoesNotFit as error:
            self.stdout.write(f"The audit log was changed: {error}.")
            sys.exit(1)
        if not seal_file.last() and AuditSeal.objects.exists():
            self.say(f"{seal_file.path()} has no seals, so nothing was compared with it. It begins now.")
        try:
            made = [] if options["no_seal"] else seals.seal()
        except seals.Unsealable as error:
            raise CommandError(str(error), returncode=2) from None
        new = f" {sum(each.events for each in made):,} new ones are sealed now." if made else ""
        self.stdout.write(f"All {events:,} sealed events of the audit log are as they were sealed.{new}")
