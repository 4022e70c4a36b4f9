"""What a call may use, reckoned before anybody has counted: for the hold, and for calls that nobody saw end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from messages_api.metering import BYTES_PER_TOKEN
from usage.pricing import ModelPrice
from usage.tokens import TokenCounts

# Images and documents in base64: their bytes are no text.
ENCODED = re.compile(rb'"data"\s*:\s*"([A-Za-z0-9+/=\\]{400,})"')
# An image is width x height / 750 tokens, at most about 1,600 (https://docs.claude.com/en/docs/build-with-claude/vision);
# a page of a PDF is up to 3,000 tokens of text and an image, and seldom less than 20 kB.
IMAGE_TOKENS = 1_600
PDF_BYTES_PER_TOKEN = 5
# The dearest reading of a body: no tokeniser makes more than one token of two bytes of JSON, on the whole.
CEILING_BYTES_PER_TOKEN = 2


# What can't be seen in a request is an allowance. A provider's own tools run in a loop, and each step of it reads
# again all that came before: ten steps are what a call comes to before the provider pauses it (`pause_turn`), unless
# the tool says less in `max_uses`. Tokens of the results are what recorded ones came to, and some more.
WEB_USES = 10
SEARCH_TOKENS = 12_000
FETCH_TOKENS = 30_000
ADVISOR_USES = 3
ADVICE_TOKENS = 2_000
# Nobody waits for more in one call.
MOST_USES = 50


@dataclass(frozen=True, slots=True)
class Extras:
    """What makes a request dearer than one reading of its prompt by its model.

    `models` may be run besides: fallbacks of the provider's, advisors; with `default_fallbacks` the provider chooses.
    `readings` are how often the prompt may be read again, `searches` and `fetches` how often the web may be asked, and
    `advice` the tokens that advisors may write.
    """

    models: tuple[str, ...] = ()
    default_fallbacks: bool = False
    fast: bool = False
    inference_geo: str = ""
    readings: int = 0
    searches: int = 0
    fetches: int = 0
    advice: int = 0


NO_EXTRAS = Extras()


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens of a request's input: likely, and at most; and whether it asks for cache writes, and how long ones."""

    likely: int
    ceiling: int
    writes: bool
    hour_writes: bool

    def ceiling_cost(self, max_tokens: int, *prices: ModelPrice, extras: Extras = NO_EXTRAS) -> Decimal:
        """USD that the call may cost at most, as far as can be seen, at the dearest of these prices."""
        prompt, output = self.prompt_tokens(extras), max_tokens + extras.advice
        return max(self._cost(prompt, output, price, extras) for price in prices)

    def prompt_tokens(self, extras: Extras) -> int:
        """Tokens that are read at most, in all the steps of the call."""
        uses = extras.searches + extras.fetches
        results = extras.searches * SEARCH_TOKENS + extras.fetches * FETCH_TOKENS
        # A result is read by every step after it.
        return self.ceiling * (1 + extras.readings + uses) + results * (uses + 1) // 2

    def _cost(self, prompt: int, output: int, price: ModelPrice, extras: Extras) -> Decimal:
        rates = price.at(prompt)
        write = rates.cache_write_1h if self.hour_writes else rates.cache_write_5m
        written = prompt if self.writes and write > rates.input else 0
        return price.cost(
            TokenCounts(
                input_tokens=prompt - written,
                output_tokens=output,
                cache_creation_5m_input_tokens=0 if self.hour_writes else written,
                cache_creation_1h_input_tokens=written if self.hour_writes else 0,
                web_search_requests=extras.searches,
            ),
            speed="fast" if extras.fast else "",
            inference_geo=extras.inference_geo,
        )

    def likely_cost(self, price: ModelPrice) -> Decimal:
        """USD that its input is likely to cost."""
        return (price.at(self.likely).input * self.likely).scaleb(-6)


NOTHING = Estimate(likely=0, ceiling=0, writes=False, hour_writes=False)


def estimate(body: bytes) -> Estimate:
    """Reckon a request's input from its body."""
    size, extra = len(body), 0
    if b'"base64"' in body:
        for match in ENCODED.finditer(body):
            length = match.end(1) - match.start(1)
            size -= length
            pdf = match[1].startswith(b"JVBER")  # base64 of %PDF
            extra += length // PDF_BYTES_PER_TOKEN if pdf else IMAGE_TOKENS
    writes = b'"cache_control"' in body
    return Estimate(
        likely=-(-size // (BYTES_PER_TOKEN + 1)) + extra,
        ceiling=-(-size // CEILING_BYTES_PER_TOKEN) + extra,
        writes=writes,
        hour_writes=writes and b'"1h"' in body,
    )
