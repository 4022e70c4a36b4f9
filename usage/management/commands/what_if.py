"""manage.py what_if"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from keys import commands
from keys.errors import Unusable
from usage import price_runs
from usage.repricing import Prices
from usage.what_if import Instead, unpriced, unpriced_models, what_if


class Command(commands.GatewayCommand):
    help = (
        "Say what recorded calls would have cost with another model, provider or discount. Nothing is written. "
        "Example: manage.py what_if --since 2026-11-01 --model 'claude-opus-*' --instead claude-sonnet-5-5"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        price_runs.add_arguments(parser)
        parser.add_argument("--instead", metavar="MODEL", default="", help="another model")
        parser.add_argument("--provider", metavar="KIND", default="", help="another kind of provider, such as bedrock")
        parser.add_argument("--percent", metavar="N", default="0", help="added to all prices: -15 is a discount")
        parser.add_argument(
            "--unpriced",
            action="store_true",
            help="only calls that were priced at the high default; without other options, list their models",
        )

    def handle(self, **options: Any) -> None:
        rows = price_runs.which(options).rows()
        instead = Instead(options["instead"], options["provider"], percent(options["percent"]))
        if options["unpriced"] and instead == Instead():
            for (provider, model), found in sorted(unpriced_models(rows).items()):
                cost = price_runs.exact(found.old.cost)
                self.stdout.write(f"{model or 'no model'} of {provider}: {found.calls:,} calls, ${cost} by the default")
            return
        rows = unpriced(rows) if options["unpriced"] else rows
        for line in price_runs.in_words(what_if(rows, Prices(timezone.now()), instead)):
            self.stdout.write(line)


def percent(text: str) -> Decimal:
    """A percentage, at least -100.

    Raises:
        Unusable: the text isn't one.
    """
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or not -100 <= found <= 10_000:
        raise Unusable(f"--percent: “{text}” isn't a percentage from -100 to 10000")
    return found
