"""manage.py set_limit"""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from keys import commands
from keys.errors import Unusable
from usage import budget_terms, owners
from usage.budget_terms import RATE_OPTIONS, LimitTerms, Scope
from usage.limits import LimitKind
from usage.management import arguments
from usage.owners import Owner
from usage.standing import at_once


class Command(commands.GatewayCommand):
    help = (
        "Create, change or remove limits of a customer, a team or a virtual key: on requests and tokens per minute, "
        "and on calls at once. Options that you leave out keep their current values; running it twice changes nothing. "
        "Examples: manage.py set_limit team:Acme/Research --rpm 600 --parallel 20; set_limit key:ci --input-tpm 40000 "
        "--burst 10000 --count-cached --models 'claude-opus-*'; set_limit key:ci --rpm --remove"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_owner(parser)
        for kind, option in RATE_OPTIONS.items():
            parser.add_argument(option, nargs="?", const="", metavar="N", help=f"at most N {kind.label}")
        parser.add_argument(
            "--burst",
            metavar="N",
            help="how much of the limit may be used at once; 0 for the default: a sixth of the requests a minute, at "
            "least 10 and at most all of them, or a tenth of the tokens",
        )
        parser.add_argument(
            "--count-cached",
            action=argparse.BooleanOptionalAction,
            help="whether input tokens that are read from caches count too; default for a new limit: no",
        )
        arguments.add_scope(parser)
        parser.add_argument("--remove", action="store_true", help="remove the named limits; give them without numbers")

    def handle(self, **options: Any) -> None:
        owner = owners.find(options["owner"])
        scope = Scope(models=options["models"], provider_key=commands.provider_key(options["provider_key"]))
        named = {
            kind: rate
            for kind, option in RATE_OPTIONS.items()
            if (rate := options[option.removeprefix("--").replace("-", "_")]) is not None
        }
        if not named:
            raise Unusable(f"name at least one limit: {', '.join(RATE_OPTIONS.values())}")
        if options["remove"]:
            if any(named.values()):
                raise Unusable("--remove removes the whole limit: name it without a number, as in --rpm --remove")
            self.remove(owner, list(named), scope)
        else:
            self.put(owner, paces(named, options["burst"], options["count_cached"]), scope)

    @transaction.atomic
    def put(self, owner: Owner, paces: list[LimitTerms], scope: Scope) -> None:
        limits = [budget_terms.put_limit(owner, pace, scope) for pace in paces]
        for limit in limits:
            burst = at_once(limit)
            self.stdout.write(f"{limit}, {burst:,} at once" if burst else str(limit))

    @transaction.atomic
    def remove(self, owner: Owner, kinds: list[LimitKind], scope: Scope) -> None:
        for kind in kinds:
            removed = budget_terms.remove_limits(owner, kind, scope)
            for limit in removed:
                self.stdout.write(f"Removed: {limit}")
            if not removed:
                self.say(f"There is no such limit of {kind.label}.")


def paces(named: dict[LimitKind, str], burst: str | None, count_cached: bool | None) -> list[LimitTerms]:
    """The limits to set.

    Raises:
        Unusable: a number can't be parsed, or an option doesn't fit the named limits.
    """
    if burst is not None and len(named) > 1:
        raise Unusable("--burst applies to one limit: set the other limits in separate runs")
    if count_cached is not None and LimitKind.INPUT_TOKENS not in named:
        raise Unusable("--count-cached applies to a limit of input tokens: add --input-tpm N")
    size = 0 if burst == "0" else budget_terms.parse_rate(burst, "--burst") if burst is not None else None
    return [
        LimitTerms(
            kind,
            budget_terms.parse_rate(rate, RATE_OPTIONS[kind]),
            size,
            count_cached if kind == LimitKind.INPUT_TOKENS else None,
        )
        for kind, rate in named.items()
    ]
