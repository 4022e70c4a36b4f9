"""What recorded calls would have cost with another model, provider or discount. Nothing is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from keys import provider_kinds
from keys.errors import Unusable
from keys.model_names import fold
from usage.pricing import ModelPrice, UnpricedModel
from usage.recomputed import Recorded
from usage.repricing import ModelSum, Outcome, Prices, Rows, pages

UNPRICED = "unpriced"


@dataclass(frozen=True, slots=True)
class Instead:
    """What is different. Empty: as it was.

    Attributes:
        model, provider: another model, or the same one from another kind of provider.
        percent: added to what providers charge, and so to what owners pay: -15 is a discount.
    """

    model: str = ""
    provider: str = ""
    percent: Decimal = Decimal(0)

    def check(self) -> None:
        """Check that there is such a provider.

        Raises:
            Unusable: there isn't.
        """
        if self.provider and not provider_kinds.is_known(self.provider):
            known = ", ".join(provider_kinds.names())
            raise Unusable(f"there is no provider “{self.provider}”: choose {known}")

    def prices(self, prices: Prices, call: Recorded) -> Callable[[str, str], ModelPrice]:
        """What models would cost this call.

        Args:
            prices: those that it starts from.
        """

        def price(provider: str, model: str) -> ModelPrice:
            found = prices.of(call)(self.provider or provider, self.model or model)
            return scaled(found, 1 + self.percent / 100) if self.percent else found

        return price


def scaled(price: ModelPrice, factor: Decimal) -> ModelPrice:
    """A price multiplied by a factor, for us and for the owner."""
    found = price.scaled(factor, price.version)
    if price.charged is None:
        return found
    return replace(found, charged=price.charged.scaled(factor, price.charged.version))


def what_if(rows: Rows, prices: Prices, instead: Instead) -> Outcome:
    """What these calls would have cost, beside what they cost, by the model that they had. All calls are counted, and
    those of a model that has no price are left out.

    Raises:
        Unusable: there is no such provider.
    """
    instead.check()
    outcome = Outcome()
    for page in pages(rows):
        for call in page:
            outcome.read += 1
            try:
                new = call.at(instead.prices(prices, call))
            except UnpricedModel:
                outcome.leave_out(call.row)
                continue
            outcome.models[fold(call.said["model"])].add(call.amounts, new)
    return outcome


def unpriced(rows: Rows) -> Rows:
    """Those of the calls that were priced at the high default, because their model had no price."""
    return rows.filter(price_flag=UNPRICED)


def unpriced_models(rows: Rows) -> dict[tuple[str, str], ModelSum]:
    """The providers and models of calls without a price, with what they cost by the default."""
    found: dict[tuple[str, str], ModelSum] = defaultdict(ModelSum)
    for page in pages(unpriced(rows)):
        for call in page:
            found[call.row.provider, fold(call.said["model"])].add(call.amounts, call.amounts)
    return found
