"""`manage.py export_usage`: the ledger, one row a call, oldest first."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError

from keys import demo_data, virtual_keys
from keys.audit.notes import note
from keys.commands import GatewayCommand
from keys.errors import Unusable
from usage import archived, export, moments


class Command(GatewayCommand):
    help = "Export the ledger to standard output: one row per call, oldest first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--since", metavar="T", help="only calls from this time on (ISO 8601; UTC unless it has an offset)"
        )
        parser.add_argument("--until", metavar="T", help="only calls before this time")
        parser.add_argument("--virtual-key", metavar="NAME", help=f"only the calls of this key: {virtual_keys.SAID}")
        parser.add_argument("--format", choices=export.KINDS, default="jsonl", help="default: jsonl")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = export.Range(
            moment("--since", options["since"]), moment("--until", options["until"]), key_id(options["virtual_key"])
        )
        if demo_data.is_demo():
            self.say("This deployment has demo data: customers, calls and money are made up.")
        if missing := archived.overlapping(wanted.since, wanted.until):
            self.say(f"The export lacks archived calls: {archived.in_words(missing)}.")
        if options["format"] == "xlsx" and self.stdout.isatty():
            raise CommandError("a workbook is no text: send it to a file with > usage.xlsx", returncode=2)
        since, until = options["since"], options["until"]
        note("exported", "usage_ledgerentry", since=since, until=until, virtual_key=wanted.virtual_key)
        read = Counted(export.read(wanted))
        complete = False
        try:
            if write := export.LINES.get(options["format"]):
                for line in write(read):
                    self.stdout.write(line)
            else:
                screen: Any = self.stdout
                for piece in export.as_file(options["format"], read, about(options)):
                    screen.buffer.write(piece)
            self.stdout.flush()
            complete = True
        except BrokenPipeError:
            # The reader of the pipe, such as `head`, has closed it. Python would report that once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            note("export ended", "usage_ledgerentry", rows=read.rows, complete=str(complete).lower())


class Counted:
    """Rows, which are counted while they are read."""

    def __init__(self, rows: Iterator[dict[str, Any]]) -> None:
        self.source = rows
        self.rows = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.source:
            self.rows += 1
            yield row


def about(options: dict[str, Any]) -> dict[str, str]:
    """What the file says about its rows."""
    names = ("since", "until", "virtual_key")
    asked = " ".join(f"{name}={options[name]}" for name in names if options[name] is not None)
    return {"filter": asked or "all calls", "time_zone": "UTC", "made_at": moments.show(moments.now())}


def moment(option: str, text: str | None) -> datetime | None:
    try:
        return moments.parse(text) if text is not None else None
    except ValueError as error:
        raise CommandError(f"{option}: {error}", returncode=2) from None


def key_id(name: str | None) -> int | None:
    if name is None:
        return None
    try:
        return virtual_keys.find(name).pk
    except Unusable as error:
        raise CommandError(f"--virtual-key: {error}", returncode=2) from None
