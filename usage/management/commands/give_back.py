"""manage.py give_back"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser
from django.db.models import QuerySet

from keys import commands
from keys.errors import Unusable
from usage import request_ids, retained
from usage.retained import Retained


class Command(commands.GatewayCommand):
    help = (
        "Give back to budgets what they keep held for interrupted calls beyond their estimates. Without this command, "
        "it is given back after RETAINED_SECONDS. Examples: manage.py give_back --list; give_back req_bf_019ab…; "
        "give_back --older-than 15m"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("calls", nargs="*", metavar="CALL", help="a request id, req_bf_…")
        parser.add_argument(
            "--older-than",
            metavar="AGE",
            help="all calls whose amounts have been kept for longer than this: 90s, 15m, 24h or 7d",
        )
        parser.add_argument(
            "--list", action="store_true", help="only show what is kept, for the named calls or for all"
        )

    def handle(self, **options: Any) -> None:
        calls, age = options["calls"], options["older_than"]
        if calls and age:
            raise Unusable("name the calls, or use --older-than, but not both")
        if not (calls or age or options["list"]):
            raise Unusable("name the calls, or use --older-than AGE; --list shows what is kept")
        rows = these(calls) if calls else retained.older_than(commands.duration(age or "0"))
        if options["list"]:
            for row in retained.with_amounts(rows):
                self.show(row, f"since {row.retained_at:%Y-%m-%dT%H:%M:%SZ}: ")
            return
        given = retained.give_back(rows)
        for row in given:
            self.show(row, "")
        if not given:
            self.say("Nothing was given back: no budget keeps anything for these calls.")

    def show(self, row: Any, when: str) -> None:
        self.stdout.write(f"{request_ids.request_id(row.pk)} {when}{'; '.join(retained.amounts_of(row))}")


def these(texts: list[str]) -> QuerySet[Retained]:
    """What budgets retain for these calls.

    Raises:
        Unusable: a text isn't a request id, or nothing is retained for that call.
    """
    calls = [parse(text) for text in texts]
    rows = Retained.objects.filter(pk__in=calls).order_by("pk")
    found = set(rows.values_list("pk", flat=True))
    for call, text in zip(calls, texts, strict=True):
        if call not in found:
            raise Unusable(f"no budget retains anything for “{text}”")
    return rows


def parse(text: str) -> UUID:
    """Parse a request id.

    Raises:
        Unusable: the text isn't a request id.
    """
    try:
        return request_ids.parse(text)
    except ValueError:
        raise Unusable(f"“{text}” isn't a request id: expected req_bf_ and 32 hex digits") from None
