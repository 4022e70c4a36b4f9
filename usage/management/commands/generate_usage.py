"""manage.py generate_usage"""

from __future__ import annotations

import resource
import sys
import time
from argparse import RawDescriptionHelpFormatter
from dataclasses import fields
from datetime import UTC
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from keys import commands
from usage.demo import generate
from usage.demo.options import Options

DEFAULTS = {"rows": 200_000, "months": 12, "customers": 8, "teams": 32, "keys": 160, "seed": 1}
EXAMPLES = """\
examples:
  manage.py generate_usage                             a year of 200,000 calls, up to now
  manage.py generate_usage --rows 10000000 --keys 4000 --teams 400 --customers 40
  manage.py generate_usage --until 2027-01-01 --seed 7 the same rows each time

Use a database of its own. The command refuses a deployment that has real calls or a provider's secret, and the
deployment stays a demo for good: its pages say so, and it takes no provider's secret. If a run is cut off, give the
command again: it goes on where it was.
"""


class Command(commands.GatewayCommand):
    help = "Fill an empty deployment with a plausible year of usage, for demos, tests and benchmarks (docs/demo.md)."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name, subcommand, epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: CommandParser) -> None:
        said = {
            "rows": "ledger rows",
            "months": "months before --until that they lie in",
            "customers": "customers",
            "teams": "teams, at least one for each customer",
            "keys": "virtual keys",
            "seed": "with the same seed, options and --until, the data is the same",
        }
        for name, text in said.items():
            parser.add_argument(f"--{name}", metavar="N", help=f"{text}; default: {DEFAULTS[name]:,}")
        parser.add_argument(
            "--until", metavar="T", help="the end (ISO 8601; UTC unless it has an offset); default: now"
        )

    def handle(self, **options: Any) -> None:
        given = {field.name: options[field.name] for field in fields(Options) if options[field.name] is not None}
        unfinished = generate.unfinished()
        if unfinished is not None and not given:
            wanted = Options.of(unfinished)
            self.say("The run that was cut off goes on.")
        else:
            until = given.pop("until", None)
            numbers = DEFAULTS | {name: commands.whole_number(text) or 0 for name, text in given.items()}
            now = timezone.now().astimezone(UTC).replace(second=0, microsecond=0)
            wanted = Options(**numbers, until=commands.moment(until) if until else now)
        began = self.said = time.monotonic()
        added = generate.generate(wanted, self.progress)
        seconds = max(0.001, time.monotonic() - began)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        self.stdout.write(
            f"{added:,} rows in {seconds:,.0f} s ({added / seconds:,.0f} rows/s, roll-ups included; {memory} MB). "
            "This deployment now says “demo data” on every page, for good."
        )

    def progress(self, added: int, missing: int) -> None:
        """Say how far it is: on a terminal in one line, elsewhere a line every ten seconds."""
        whole = added + missing
        text = f"{added:,} of {whole:,} rows ({added * 100 // max(1, whole)} %)"
        if sys.stderr.isatty():
            self.stderr.write(f"\r{text}", ending="" if missing else "\n")
        elif time.monotonic() - self.said > 10:
            self.said = time.monotonic()
            self.say(text)
