"""What a provider's report of a request can't be beyond. More than that is a mistake, and an estimate takes its place:
a ledger row can't be changed.

The bounds are wide. They keep a mistake from becoming a bill, and doubt no count that a model could come to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from messages_api.metering import OWN_STEPS, Iteration, Reading
from messages_api.schema import MessagesRequest
from usage.pricing import ModelPrice

# Tokens that a model can take of which nobody knows it.
UNKNOWN_WINDOW = 2_000_000
# Some count what they read of a cache twice, or their own instructions.
WINDOWS = 2
# Output beyond `max_tokens`: some don't count thinking as such, or stop late.
OUTPUTS, MORE_OUTPUT = 2, 10_000
# Readings of a prompt where tools run in the provider's loop, and searches, besides those that the request says.
STEPS, SEARCHES = 50, 100
# Iterations of a request without such tools.
ITERATIONS = 4


class Implausible(ValueError):
    """A report can't be true."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one request.

    Attributes:
        output: tokens of one step; 0: nobody knows what was asked for.
        steps: how often its prompt may be read.
        searches: that it may make.
        fast: it may be answered in fast mode, and `batch`, at Anthropic's prices of batches.
    """

    output: int
    steps: int
    searches: int
    fast: bool
    batch: bool

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
        for step, price in zip(steps, prices, strict=True):
            window = WINDOWS * (price.window or UNKNOWN_WINDOW)
            output = self.output if self.output and step.kind in OWN_STEPS else window
            if step.counts.prompt_tokens > window * self.steps or step.counts.output_tokens > min(output, window):
                raise Implausible


def bounds(request: MessagesRequest) -> Bounds:
    """What a report of this request can't be beyond."""
    extras = request.extras
    asked = request.max_tokens + request.thinking_budget
    said = sum(one.times or 0 for one in extras.uses)
    return Bounds(
        output=OUTPUTS * asked + MORE_OUTPUT if request.max_tokens else 0,
        steps=1 + extras.readings + (STEPS + said if extras.uses else 0),
        searches=SEARCHES + said,
        fast=extras.fast,
        batch=False,
    )


# A request of a batch, of which nothing is known any more.
OF_BATCH = Bounds(output=0, steps=1 + STEPS, searches=SEARCHES, fast=False, batch=True)
