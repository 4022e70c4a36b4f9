"""Top movers: the groups whose amount has changed most against the range before, and why.

A change has four causes, whose sum it is, to the last digit:

- volume: more or fewer tokens of all kinds, at what a token cost the group before (calls, where there are no tokens)
- mix: other models, or another proportion of input and output, at the prices of before
- cache: other parts of what models read come from caches or are written to them, at the prices of before
- price: the rest: a token of the same category and model costs something else. All that belongs to no category is here

They are computed one after the other in this order, as fractions. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from usage.questions import Line
from usage.reporting.categories import added, parts
from usage.splits import PLACES

CAUSES = ("volume", "mix", "cache", "price")
# What each category of an amount is paid for. Calls, for all others.
QUANTITIES = {
    "input": "input_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write_5m": "cache_creation_5m_input_tokens",
    "cache_write_1h": "cache_creation_1h_input_tokens",
    "output": "output_tokens",
    "web_search": "web_search_requests",
}
PROMPT = ("input", "cache_read", "cache_write_5m", "cache_write_1h")
MEASURES = ("calls", "cost", "charge", *QUANTITIES.values(), "cost_split", "charge_split")
NONE = Decimal(0)

Sums = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Mover:
    """A group's amount now and in the range before, and the causes of the change (`CAUSES`).

    Attributes:
        count: how many groups these are; more than one: those that have changed less than the others.
    """

    group: tuple[Any, ...]
    now: Decimal
    was: Decimal
    causes: Mapping[str, Decimal]
    count: int = 1

    @property
    def change(self) -> Decimal:
        """By how much the amount has changed."""
        return self.now - self.was

    @property
    def percent(self) -> Decimal | None:
        """The change in percent; None where there was nothing."""
        return self.change / self.was * 100 if self.was else None


def movers(now: Iterable[Line], was: Iterable[Line], amount: str, shown: int | None) -> list[Mover]:
    """The groups, those with the largest change first; after `shown` of them, all others as one.

    Args:
        now, was: lines whose last dimension is the model.
    """
    sums, before = _by_group(now), _by_group(was)
    change = {
        group: _paid(sums.get(group, {}), amount) - _paid(before.get(group, {}), amount) for group in {**sums, **before}
    }
    shown = len(change) if shown is None or len(change) == shown + 1 else shown
    order = sorted(change, key=lambda group: (-abs(change[group]), str(group)))
    found = [mover(group, sums.get(group, {}), before.get(group, {}), amount) for group in order[:shown]]
    if others := order[shown:]:
        rest, rest_before = (_together(of[group] for group in others if group in of) for of in (sums, before))
        found.append(replace(mover((), rest, rest_before, amount), count=len(others)))
    return found


def total(of: Iterable[Mover]) -> Mover:
    """The sum of several."""
    each = list(of)
    causes = {name: sum((one.causes[name] for one in each), NONE) for name in CAUSES}
    count = sum(one.count for one in each)
    return Mover((), sum((one.now for one in each), NONE), sum((one.was for one in each), NONE), causes, count)


def _paid(of: Mapping[Any, Sums], amount: str) -> Decimal:
    return sum((each.get(amount) or NONE for each in of.values()), NONE)


def _together(of: Iterable[Mapping[Any, Sums]]) -> dict[Any, Sums]:
    """Several groups' sums by model, added up."""
    found: dict[Any, list[Sums]] = {}
    for models in of:
        for model, sums in models.items():
            found.setdefault(model, []).append(sums)
    return {model: added(sums) for model, sums in found.items()}


def _by_group(of: Iterable[Line]) -> dict[tuple[Any, ...], dict[Any, Sums]]:
    found: dict[tuple[Any, ...], dict[Any, Sums]] = {}
    for line in of:
        models = found.setdefault(line.group[:-1], {})
        model = line.group[-1]
        models[model] = added([models[model], line.values]) if model in models else line.values
    return found


def mover(group: tuple[Any, ...], now: Mapping[Any, Sums], was: Mapping[Any, Sums], amount: str) -> Mover:
    """One group, from its sums by model in both ranges."""
    causes = _causes(now, was, amount)
    paid, paid_before = _paid(now, amount), _paid(was, amount)
    return Mover(group, paid, paid_before, _rounded(causes, paid - paid_before))


def _rounded(causes: Mapping[str, Fraction], change: Decimal) -> dict[str, Decimal]:
    """The causes with the ledger's decimal places. Their sum is the change: the largest one takes what is left."""
    found = {name: (Decimal(of.numerator) / Decimal(of.denominator)).quantize(PLACES) for name, of in causes.items()}
    largest = max(found, key=lambda name: abs(found[name]))
    found[largest] += change - sum(found.values(), NONE)
    return found


def _causes(now: Mapping[Any, Sums], was: Mapping[Any, Sums], amount: str) -> dict[str, Fraction]:
    paid, paid_before = Fraction(_paid(now, amount)), Fraction(_paid(was, amount))
    unit = next((unit for unit in (_tokens, _calls) if _sum(unit, now) > 0 and _sum(unit, was) > 0), None)
    if unit is None:  # new, or gone
        return dict.fromkeys(CAUSES, Fraction()) | {"volume": paid - paid_before}
    grown = paid_before * _sum(unit, now) / _sum(unit, was)
    found = {"volume": grown - paid_before, "mix": -grown, "cache": Fraction(), "price": Fraction()}
    for model in {**now, **was}:
        for cause, value in _of_model(now.get(model, {}), was.get(model, {}), amount, unit):
            found[cause] += value
    return found


def _of_model(now: Sums, was: Sums, amount: str, unit: Any) -> Iterator[tuple[str, Fraction]]:
    """What a model adds to the causes besides the volume; without it, `mix` is what the grown volume would cost."""
    paid = Fraction(now.get(amount) or 0)
    if unit(now) <= 0:
        yield "price", paid  # without tokens
        return
    if unit(was) <= 0:
        yield "mix", paid  # a new model
        return
    at_prices_before = Fraction()
    prices = dict[str, Fraction]()
    split, split_before = parts(now, amount), parts(was, amount)
    for category, part in split_before.items():
        bought, bought_before = _quantity(now, category), _quantity(was, category)
        if bought_before > 0:
            prices[category] = Fraction(part) / bought_before
            at_prices_before += bought * prices[category]
        elif bought > 0:
            at_prices_before += Fraction(split[category])
    read, read_before = (sum((_quantity(of, each) for each in PROMPT), Fraction()) for of in (now, was))
    cache = Fraction()
    if read > 0 and read_before > 0:
        for category in PROMPT:
            same_part = read * _quantity(was, category) / read_before
            # A category that is new costs what it costs now.
            price = prices.get(category, _price(split[category], _quantity(now, category)))
            cache += (_quantity(now, category) - same_part) * price
    yield "cache", cache
    yield "mix", at_prices_before - cache
    yield "price", paid - at_prices_before


def _price(part: Decimal, quantity: Fraction) -> Fraction:
    return Fraction(part) / quantity if quantity > 0 else Fraction()


def _quantity(of: Sums, category: str) -> Fraction:
    return Fraction(int(of.get(QUANTITIES.get(category, "calls")) or 0))


def _sum(unit: Any, of: Mapping[Any, Sums]) -> Fraction:
    return sum((unit(each) for each in of.values()), Fraction())


def _tokens(of: Sums) -> Fraction:
    return sum((_quantity(of, each) for each in (*PROMPT, "output")), Fraction())


def _calls(of: Sums) -> Fraction:
    return Fraction(int(of.get("calls") or 0))
