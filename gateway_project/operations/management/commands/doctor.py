"""manage.py doctor"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from gateway_project.operations.doctor import Level, examine
from keys.commands import GatewayCommand


class Command(GatewayCommand):
    help = (
        "Say what is wrong with this deployment and how to mend it, a line each; it changes nothing. Works while the "
        "database or the broker is down. Exits with 0 (nothing is wrong), 1 (warnings) or 2 (faults)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the findings as JSON, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(examine())
        if options["json"]:
            self.stdout.write(json.dumps([asdict(each) for each in found], indent=1, ensure_ascii=False))
        else:
            for each in found:
                mend = f" ▸ {each.mend}" if each.mend else ""
                self.stdout.write(f"{each.level:8}{each.check}: {each.says}{mend}")
        levels = {each.level for each in found}
        if Level.FAULT in levels:
            sys.exit(2)
        if Level.WARNING in levels:
            sys.exit(1)
