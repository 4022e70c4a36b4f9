"""What a provider's report of a request can't be beyond. More than that is a mistake, and an estimate takes its place:
a ledger row can't be changed.

The bounds are wide. They keep a mistake from becoming a bill, and doubt no count that a model could come to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from messages_api.metering import Iteration, Reading
from messages_api.schema import MessagesRequest
from usage.pricing import ModelPrice

# Tokens that a model can take of which nobody knows it.
UNKNOWN_WINDOW = 2_000_000
# Some count what they read of a cache twice, or their own instructions.
WINDOWS = 2
# Output beyond `max_tokens`: some don't count thinking as such, or stop late.
OUTPUTS, MORE_OUTPUT = 2, 10_000
# Output of an advisor, or a summary: more than any model writes in a step.
MOST_OUTPUT = 150_000
# Readings of a prompt where tools run in the provider's loop, and searches, besides those that the request says.
STEPS, SEARCHES = 50, 100
# Iterations of a request without such tools.
ITERATIONS = 4
# What the results of a batch may come to, by what was held for it. A file that a request only names may be fifty times
# as long as its allowance.
OF_HOLD = 50

ADVICE, SUMMARY, FALLBACK = "advisor_message", "compaction", "fallback_message"
SOME_ASK_FOR = frozenset((ADVICE, SUMMARY, FALLBACK))


class Implausible(ValueError):
    """A report can't be true."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one request.

    Attributes:
        output: tokens of one step; 0: nobody knows what was asked for.
        steps: how often its prompt may be read.
        searches: that it may make.
        kinds: of steps that only some requests ask for, those that this one does.
        advice: tokens of one step of an advisor.
        fast: it may be answered in fast mode, and `batch`, at Anthropic's prices of batches.
        cost: USD; None: the counts are bound enough.
    """

    output: int
    steps: int
    searches: int
    kinds: frozenset[str]
    advice: int
    fast: bool
    batch: bool
    cost: Decimal | None = None

    def correct(self, reading: Reading) -> None:
        """Take out of a report what would price it as something that wasn't asked for."""
        for name, value, asked in (("speed", "fast", self.fast), ("service_tier", "batch", self.batch)):
            # Where a provider has tiers of its own, it is for the answer to say which one it was.
            if reading.usage.get(name) == value and not asked and "provider_service_tier" not in reading.usage:
                reading.doubtful = True
                del reading.usage[name]

    def check(self, steps: list[Iteration], prices: Iterable[ModelPrice]) -> None:
        """Check what was reported.

        Args:
            prices: of each step.

        Raises:
            Implausible: it can't be true.
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
            # Its searches and pages, by which it may have read its prompt more often.
            if step.steps > self.steps + self.searches:
                raise Implausible

    def _most_output(self, kind: str) -> int:
        """Tokens that a step of this kind may write; 0: nobody knows."""
        if kind == ADVICE:
            return self.advice
        return self.output if kind != SUMMARY or not self.output else max(self.output, MOST_OUTPUT)

    def check_cost(self, cost: Decimal) -> None:
        """Check what all of it comes to.

        Raises:
            Implausible: it can't be true.
        """
        if self.cost is not None and cost > self.cost:
            raise Implausible


def within_output(steps: list[Iteration]) -> list[Iteration]:
    """The same steps where their thinking is a part of their output, as it is everywhere; else with so much of it that
    it is. A provider may count the thinking of all steps with one of them."""
    written = sum(step.counts.output_tokens for step in steps)
    if sum(step.counts.thinking_tokens for step in steps) <= written:
        return steps
    return [
        replace(step, counts=replace(step.counts, thinking_tokens=min(step.counts.thinking_tokens, most)))
        for step, most in ((step, step.counts.output_tokens) for step in steps)
    ]


def bounds(request: MessagesRequest) -> Bounds:
    """What a report of this request can't be beyond."""
    extras = request.extras
    asked = request.max_tokens + request.thinking_budget
    said = sum(one.times or 0 for one in extras.uses)
    uses = {one.kind for one in extras.uses}
    advice = [one.tokens for one in extras.uses if one.kind == "advisor"]
    # What a thread was begun with isn't said again.
    threaded = "thread" in uses
    again = extras.readings > 0 or threaded
    kinds = {ADVICE: "advisor" in uses or threaded, SUMMARY: again, FALLBACK: again}
    return Bounds(
        output=OUTPUTS * asked + MORE_OUTPUT if request.max_tokens else 0,
        steps=1 + extras.readings + (STEPS + said if extras.uses else 0),
        searches=SEARCHES + said if threaded or "web_search" in uses else 0,
        kinds=frozenset(kind for kind, may_be in kinds.items() if may_be),
        advice=max((OUTPUTS * each + MORE_OUTPUT if each else MOST_OUTPUT for each in advice), default=MOST_OUTPUT),
        fast=extras.fast,
        batch=False,
    )


def of_batch(left: Decimal) -> Bounds:
    """For a request of a batch. What it asked for isn't known any more, but what was held for all of them.

    Args:
        left: USD that the results may still come to.
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
