"""The contract's discount by model, as the provider's report has it, offered as a price row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from urllib.parse import urlencode

from django.db.models import Sum
from django.urls import reverse

from keys.models import ProviderKey
from reconciliation.comparisons import Comparison

# A price row has as many.
PLACES = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Offer:
    """A discount that our price book lacks: `percent` as a price row has it, -15 for 15 % less.

    Attributes:
        exact: the percentage has no more digits than a row may have.
        explains: USD that it explains in the range.
    """

    provider: str
    model: str
    percent: Decimal
    exact: bool
    explains: Decimal

    @property
    def url(self) -> str:
        """The form for a new price, filled in."""
        given = {
            "sets": "cost",
            "provider": self.provider,
            "model": self.model,
            "percent": f"{self.percent:f}",
            "note": "the discount in the provider's report",
        }
        return f"{reverse('admin:usage_price_add')}?{urlencode(given)}"


def offers(provider_key: ProviderKey, since: datetime, until: datetime) -> list[Offer]:
    """The discounts of a range that our price book lacks, the largest first."""
    rows = Comparison.objects.filter(
        provider_key=provider_key, start__gte=since, start__lt=until, listed__isnull=False
    ).exclude(discount=0)
    found = []
    for each in (
        rows.order_by("model")
        .values("model")
        .annotate(paid=Sum("theirs") - Sum("their_fees"), at_list=Sum("listed"), explains=Sum("discount"))
    ):
        if not each["at_list"] or each["paid"] == each["at_list"]:
            continue
        exact = (each["paid"] / each["at_list"] - 1) * 100
        percent = exact.quantize(PLACES)
        found.append(
            Offer(provider_key.provider, each["model"], percent.normalize(), exact == percent, each["explains"])
        )
    return sorted(found, key=lambda offer: offer.explains)
