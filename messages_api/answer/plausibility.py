"""Bounds on what a provider can truthfully report for a request.

A report beyond them is a mistake: the gateway bills an estimate instead, because a ledger row can't be changed later.
The bounds are wide, so that they never reject a count that a model can reach.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

import msgspec
from msgspec.structs import replace as changed

from messages_api.answer.metering import Iteration, Reading
from messages_api.request.schema import MessagesRequest
from usage.pricing import ModelPrice

# Tokens of the context window of a model whose window is unknown.
UNKNOWN_WINDOW = 2_000_000
# Some providers count cache reads twice, or count their own instructions.
WINDOWS = 2
# Output beyond `max_tokens`: some providers don't count thinking towards it, or stop late.
OUTPUTS, MORE_OUTPUT = 2, 10_000
# Output of an advisor or a summary: more than any model writes in a step.
MOST_OUTPUT = 150_000
# How often a prompt is read, and how many searches are made, if tools run in the provider's loop; besides the uses that
# the request allows.
STEPS, SEARCHES = 50, 100
# Iterations of a request without such tools.
ITERATIONS = 4
# How much the results of a batch may cost, in multiples of what was held for it. A file that a request only names may
# be fifty times as long as its allowance.
OF_HOLD = 50

ADVICE, SUMMARY, FALLBACK = "advisor_message", "compaction", "fallback_message"
SOME_ASK_FOR = frozenset((ADVICE, SUMMARY, FALLBACK))


class Implausible(ValueError):
    """A provider's report can't be true."""


class Bounds(msgspec.Struct, frozen=True):
    """The bounds for one request.

    Attributes:
        output: tokens of one step; 0: unknown.
        steps: how often the prompt may be read.
        searches: how many searches the provider may make.
        kinds: the kinds of optional steps that the request asks for.
        advice: tokens of one step of an advisor.
        fast: the request may be answered in fast mode; `fast_model`: its model is one in fast mode.
        batch: the request may be billed at Anthropic's batch prices.
        cost: USD; None: the bounds on the counts suffice.
    """

    output: int
    steps: int
    searches: int
    kinds: frozenset[str]
    advice: int
    fast: bool
    batch: bool
    cost: Decimal | None = None
    fast_model: bool = False

    def correct(self, reading: Reading) -> None:
        """Remove from a report what would price the call as something that the request didn't ask for."""
        if self.fast_model:
            reading.usage.pop("speed", None)
        for name, value, asked in (("speed", "fast", self.fast), ("service_tier", "batch", self.batch)):
            # A provider that has its own tiers may choose one by itself.
            if reading.usage.get(name) == value and not asked and "provider_service_tier" not in reading.usage:
                reading.doubtful = True
                del reading.usage[name]

    def check(self, steps: list[Iteration], prices: Iterable[ModelPrice]) -> None:
        """Check the reported steps.

        Args:
            prices: of each step.

        Raises:
            Implausible: they can't be true.
        """
        if len(steps) > ITERATIONS * self.steps or sum(s.counts.web_search_requests for s in steps) > self.searches:
            raise Implausible
        windows = Decimal(0)
        for step, price in zip(steps, prices, strict=True):
            window = WINDOWS * (price.window or UNKNOWN_WINDOW)
            windows += Decimal(step.counts.prompt_tokens) / window
            if step.kind in SOME_ASK_FOR and step.kind not in self.kinds:
                raise Implausible
            if windows > self.steps or step.counts.output_tokens > min(self._most_output(step.kind) or window, window):
                raise Implausible
            # A step without iterations counts its searches and fetched pages as steps.
            if step.steps > self.steps + self.searches:
                raise Implausible

    def _most_output(self, kind: str) -> int:
        """Tokens that a step of this kind may write; 0: unknown."""
        if kind == ADVICE:
            return self.advice
        return self.output if kind != SUMMARY or not self.output else max(self.output, MOST_OUTPUT)

    def check_cost(self, cost: Decimal) -> None:
        """Check the cost of the whole call.

        Raises:
            Implausible: it can't be true.
        """
        if self.cost is not None and cost > self.cost:
            raise Implausible


def within_output(steps: list[Iteration]) -> list[Iteration]:
    """The steps, with their thinking limited to their output, of which it is a part. A provider may report the thinking
    of all steps with one of them, so this applies only if the sum is too high."""
    if len(steps) == 1 and steps[0].counts.thinking_tokens <= steps[0].counts.output_tokens:  # the usual case
        return steps
    written = sum(step.counts.output_tokens for step in steps)
    if sum(step.counts.thinking_tokens for step in steps) <= written:
        return steps
    return [
        replace(step, counts=changed(step.counts, thinking_tokens=min(step.counts.thinking_tokens, most)))
        for step, most in ((step, step.counts.output_tokens) for step in steps)
    ]


def bounds(request: MessagesRequest, *, fast: bool = False) -> Bounds:
    """The bounds for a request.

    Args:
        fast: its model is one in fast mode, whose name has that price.
    """
    extras = request.extras
    asked = request.max_tokens + request.thinking_budget
    allowed = sum(one.times or 0 for one in extras.uses)
    uses = {one.kind for one in extras.uses}
    advice = [one.tokens for one in extras.uses if one.kind == "advisor"]
    # A request that goes on with a thread doesn't repeat how the thread was started.
    threaded = "thread" in uses
    again = extras.readings > 0 or threaded
    kinds = {ADVICE: "advisor" in uses or threaded, SUMMARY: again, FALLBACK: again}
    return Bounds(
        output=OUTPUTS * asked + MORE_OUTPUT if request.max_tokens else 0,
        steps=1 + extras.readings + (STEPS + allowed if extras.uses else 0),
        searches=SEARCHES + allowed if threaded or "web_search" in uses else 0,
        kinds=frozenset(kind for kind, may_be in kinds.items() if may_be),
        advice=max((OUTPUTS * each + MORE_OUTPUT if each else MOST_OUTPUT for each in advice), default=MOST_OUTPUT),
        fast=extras.fast,
        fast_model=fast,
        batch=False,
    )


def of_batch(left: Decimal) -> Bounds:
    """The bounds for one request of a batch. The gateway no longer knows the request, only what was held for the batch.

    Args:
        left: USD that the remaining results may cost.
    """
    return Bounds(
        output=0,
        steps=1 + STEPS,
        searches=SEARCHES,
        kinds=SOME_ASK_FOR,
        advice=MOST_OUTPUT,
        fast=False,
        batch=True,
        cost=left,
    )
