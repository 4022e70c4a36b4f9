"""The usage of a call and its cost: the reported tokens, or an estimate if no report counts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec.structs import replace as changed

from keys import provider_kinds
from messages_api.answer.metering import Iteration, Reading
from messages_api.answer.plausibility import Bounds, within_output
from messages_api.answer.seen import BYTES_PER_TOKEN, FALLBACK, Use
from messages_api.process.allowances import Allowances
from messages_api.request.cache_writes import CacheWrites
from messages_api.request.estimates import MOST_USES, Extras, tokens_of
from usage import splits
from usage.price_flags import foremost
from usage.pricing import ModelPrice, UnpricedModel
from usage.splits import NONE, PLACES, Split
from usage.tokens import TOKEN_COLUMNS, TokenCounts

# The largest values of the ledger's columns; a provider that reports more is broken.
MOST_TOKENS = 2**62
MOST_COST = Decimal(10) ** 15
# The parts of a split before the last one, which is what a request costs besides its tokens.
NO_TOKENS = [NONE] * (len(splits.CATEGORIES) - 1)

PriceOf = Callable[[str, str, datetime], ModelPrice]


def bill(
    steps: list[Iteration],
    reading: Reading,
    *,
    provider: str,
    model: str,
    at: datetime,
    asked: ModelPrice,
    prices: PriceOf,
    bounds: Bounds | None = None,
    cache_writes: CacheWrites = "5m",
) -> dict[str, Any]:
    """The ledger's columns for token counts and money: the sums over all steps, each at its own model's price.
    `charge`, what the owner pays, is None if it is the cost. `cost_split` and `charge_split` are their parts by
    category.

    Args:
        asked: the price of the model that the call was admitted for, for steps whose model has no price.
        bounds: a report beyond them can't be true; None: the steps are an estimate.
        cache_writes: the duration that the request asked for.

    Raises:
        Implausible: the report can't be true.
    """
    total, cost, charge, detail, flags, versions = TokenCounts(), Decimal(0), None, [], [], []
    cost_split: Split = []
    charge_split: Split | None = None
    reported, steps = steps, within_output(steps)
    reading.doubtful = reading.doubtful or reported is not steps
    priced = [price_of(step.model or model, provider, at, asked, prices) for step in steps]
    if bounds is not None:
        bounds.correct(reading)
        bounds.check(steps, priced)
    listed = bool(reading.usage.get("iterations"))
    speed, named_tier, geo = reading.speed, reading.service_tier, reading.inference_geo
    mode: dict[str, Any] = {"speed": speed, "service_tier": named_tier, "inference_geo": geo}
    for step, price in zip(steps, priced, strict=True):
        tier = price.for_tier(named_tier)
        version = tier.version
        free = is_free(step.refusal, provider)
        parts = [] if free else price.costs(step.counts, steps=step.steps, **mode)
        amount = sum(parts, NONE)
        paid: Decimal | None = None
        if price.charged is not None:
            paid_parts = [] if free else price.charged.costs(step.counts, steps=step.steps, **mode)
            paid = sum(paid_parts, NONE)
            # Of the steps before, what was paid is what they cost, unless they had a charge of their own.
            charge = (cost if charge is None else charge) + paid
            charge_split = splits.added(cost_split if charge_split is None else charge_split, paid_parts)
            version = price.charged.for_tier(named_tier).version
        elif charge is not None and charge_split is not None:
            charge += amount
            charge_split = splits.added(charge_split, parts)
        cost_split = splits.added(cost_split, parts) if cost_split else parts
        total += step.counts
        cost += amount
        flags += flags_of(step, tier, provider, cache_writes)
        versions.append(version)
        if listed:
            detail.append(
                {
                    "type": step.kind,
                    "model": step.model or model,
                    **{name: getattr(step.counts, name) for name in TOKEN_COLUMNS},
                    "cost": str(amount),
                    **({} if paid is None else {"charge": str(paid)}),
                    "price_version": version,
                }
            )
    # Of several models, the last one answered the request.
    flat, flat_paid = price.flat, (price.charged or price).flat
    if (flat or flat_paid) and not free and total != TokenCounts():
        cost += flat
        cost_split = splits.added(cost_split, [*NO_TOKENS, flat])
        if charge is not None and charge_split is not None:
            charge += flat_paid
            charge_split = splits.added(charge_split, [*NO_TOKENS, flat_paid])
    if bounds is not None:
        bounds.check_cost(cost if charge is None else charge)
    if reading.doubtful and "refusal_not_billed" not in flags:
        flags.append("doubtful_usage")
    columns: dict[str, Any] = {name: min(getattr(total, name), MOST_TOKENS) for name in TOKEN_COLUMNS}
    return columns | {
        "cost": min(cost, MOST_COST),
        "charge": None if charge is None else min(charge, MOST_COST),
        "cost_split": splits.trimmed(cost_split) if cost <= MOST_COST else None,
        "charge_split": splits.trimmed(charge_split)
        if charge_split and charge is not None and charge <= MOST_COST
        else None,
        "price_version": "; ".join(dict.fromkeys(versions)),
        "price_flag": foremost(flags),
        "iterations": detail,
        **mode,
    }


def price_of(model: str, provider: str, at: datetime, asked: ModelPrice, prices: PriceOf) -> ModelPrice:
    try:
        return prices(provider, model, at)
    except UnpricedModel:
        return asked


def is_free(refusal: str | None, provider: str) -> bool:
    """Whether a refusal before any output costs nothing at this kind of provider.

    Args:
        refusal: its category; None: the answer was not refused.
    """
    billed = provider_kinds.find(provider).billed_refusals
    return refusal is not None and billed is not None and refusal not in billed


def flags_of(step: Iteration, price: ModelPrice, provider: str, cache_writes: CacheWrites) -> list[str]:
    """The price flags of a step."""
    if is_free(step.refusal, provider):
        return ["refusal_not_billed"]
    billed = provider_kinds.find(provider).billed_refusals or {}
    assumed = cache_writes == "both" and step.unassigned_writes > 0
    return [price.flag, billed.get(step.refusal or "", ""), "cache_writes_as_1h" if assumed else ""]


def kept_for(cache_writes: CacheWrites, provider: str) -> CacheWrites:
    """How long this kind of provider keeps the cache writes that a request asks for."""
    return cache_writes if provider_kinds.find(provider).keeps_caches_as_asked else "5m"


def owed(columns: dict[str, Any]) -> Decimal:
    """What the owner pays, from the ledger's columns."""
    charge: Decimal | None = columns["charge"]
    return columns["cost"] if charge is None else charge


def owed_split(columns: dict[str, Any]) -> Split:
    """What the owner pays by category, from the ledger's columns; empty: it isn't split."""
    return columns["cost_split" if columns["charge"] is None else "charge_split"] or []


def without_split(columns: dict[str, Any]) -> None:
    """Note that the amounts aren't those of the tokens, so that no part of them belongs to a category."""
    columns["cost_split"] = columns["charge_split"] = None


def at_least(columns: dict[str, Any], least: Decimal, factor: Decimal | None) -> None:
    """Raise what the owner pays to `least`, and the cost in proportion.

    Args:
        factor: the part of it that the provider charges; None: all of it, unless the columns have a charge.
    """
    if columns["charge"] is None and factor is None:
        columns["cost"] = max(columns["cost"], least)
    elif owed(columns) < least:
        if columns["charge"] is None:
            columns["charge_split"] = columns["cost_split"]
        columns["charge"] = least
        columns["cost"] = max(columns["cost"], share(least, factor))


def share(owed: Decimal, factor: Decimal | None) -> Decimal:
    """What the provider charges of an amount that the owner pays (`HoldColumns.cost_factor`), rounded to the ledger."""
    return owed if factor is None else (owed * factor).quantize(PLACES)


def added(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The columns of two attempts merged: the sums of tokens and cost, and the later attempt's other columns."""
    sums = {name: min(one[name] + other[name], MOST_TOKENS) for name in TOKEN_COLUMNS}
    versions = dict.fromkeys(each for of in (one, other) for each in of["price_version"].split("; ") if each)
    return {
        **other,
        **sums,
        "cost": min(one["cost"] + other["cost"], MOST_COST),
        "charge": None if one["charge"] is other["charge"] is None else min(owed(one) + owed(other), MOST_COST),
        "cost_split": splits.added(one["cost_split"] or (), other["cost_split"] or ()) or None,
        "charge_split": None
        if one["charge"] is other["charge"] is None
        else splits.added(owed_split(one), owed_split(other)) or None,
        "price_version": "; ".join(versions),
        "price_flag": foremost((one["price_flag"], other["price_flag"])),
    }


@dataclass(frozen=True, slots=True)
class Reckoning:
    """The basis of the estimate for a call whose end was not seen.

    Attributes:
        input_tokens: of its prompt, for counts that were not reported.
        most_output: the most tokens that it may write.
        extras: the tools that run in the provider's loop; `allowances`: the tokens of each use.
        writes: how long tools' results are cached; None: they aren't written to a cache.
        dearest: the most expensive of the further models that the request may mean; empty: no such model.
    """

    input_tokens: int
    most_output: int
    extras: Extras
    allowances: Allowances
    writes: CacheWrites | None
    dearest: str

    def steps(self, steps: list[Iteration], output_tokens: int, uses: Sequence[Use]) -> list[Iteration]:
        """The reported steps, with an estimate of what was used in addition.

        Args:
            uses: of the provider's tools since the report, in order. For each, the provider reads the prompt again,
                with all output and results up to then. A use without a result is under way.
        """
        *before, last = steps
        counts = last.counts
        if not counts.prompt_tokens:
            counts = changed(counts, input_tokens=self.input_tokens)
        output_tokens = max(counts.output_tokens, min(output_tokens, self.most_output))
        again = self._again(counts)
        found, began = 0, 0
        for use in uses:
            written = min(use.output, output_tokens)
            if use.kind == FALLBACK:
                # The model that declined wrote the output up to here; the model in its place reads everything.
                before.append(replace(last, counts=changed(counts, output_tokens=written - began)))
                last = Iteration("fallback_message", use.model or self.dearest, TokenCounts())
                counts, began = self._found(TokenCounts(input_tokens=again.prompt_tokens), found), written
                continue
            tokens = self._tokens(use)
            if use.kind == "advisor":
                read = TokenCounts(input_tokens=again.prompt_tokens + found + written, output_tokens=tokens)
                before.append(Iteration("advisor_message", self.dearest, read))
            found += tokens
            counts = self._found(counts + again, found + written)
            counts += TokenCounts(web_search_requests=int(use.kind == "web_search"))
            last = replace(last, steps=last.steps + 1)
        return [*before, replace(last, counts=changed(counts, output_tokens=output_tokens - began))]

    def _again(self, counts: TokenCounts) -> TokenCounts:
        """The tokens of another reading of the prompt: cached parts are read from the cache. If the report has a
        shorter prompt than the likely one, the likely length counts.
        """
        cached = counts.prompt_tokens - counts.input_tokens
        longer = max(0, self.input_tokens - counts.prompt_tokens)
        return TokenCounts(input_tokens=counts.input_tokens + longer, cache_read_input_tokens=cached)

    def _found(self, counts: TokenCounts, tokens: int) -> TokenCounts:
        """The counts with these tokens added, which are read for the first time."""
        if self.writes is None:
            return counts + TokenCounts(input_tokens=tokens)
        if self.writes == "5m":
            return counts + TokenCounts(cache_creation_5m_input_tokens=tokens)
        return counts + TokenCounts(cache_creation_1h_input_tokens=tokens)

    def _tokens(self, use: Use) -> int:
        """The tokens of a use's result: its allowance, or more if the result is longer."""
        if use.kind not in self.allowances:
            return 0
        allowed = max(
            (tokens_of(one, self.allowances) for one in self.extras.uses if one.kind == use.kind),
            default=self.allowances[use.kind].tokens,
        )
        return max(allowed, -(-use.size // BYTES_PER_TOKEN))

    def excluded_uses(self, seen: Sequence[Use]) -> list[Use]:
        """The uses that an answer leaves out: if it ran code, which may have made them, all that the allowance permits.

        https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool (November 2026)
        """
        if not any(use.kind == "code_execution" for use in seen):
            return []
        return [
            Use(one.kind)
            for one in self.extras.uses
            if one.excluded
            for _ in range(self.allowances[one.kind].uses if one.times is None else min(one.times, MOST_USES))
        ]

    def unseen_uses(self, seconds: float | None = None) -> list[Use]:
        """The uses of an answer of which nothing was seen: all that the allowances permit or, with `seconds`, one at
        the start and one a second, the dearest first.
        """
        loop = sorted(self.extras.loop(self.allowances), key=lambda kind: -kind[2])
        uses = [Use(kind) for kind, times, _ in loop if kind != "thread" for _ in range(times)]
        return uses if seconds is None else uses[: 1 + int(seconds)]
