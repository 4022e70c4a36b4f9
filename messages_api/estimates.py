"""What a call may use, reckoned before anybody has counted: for the hold, and for calls that nobody saw end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from messages_api.metering import BYTES_PER_TOKEN
from usage.pricing import ModelPrice

# Images and documents in base64: their bytes are no text.
ENCODED = re.compile(rb'"data"\s*:\s*"([A-Za-z0-9+/=\\]{400,})"')
# An image is width x height / 750 tokens, at most about 1,600 (https://docs.claude.com/en/docs/build-with-claude/vision);
# a page of a PDF is up to 3,000 tokens of text and an image, and seldom less than 20 kB.
IMAGE_TOKENS = 1_600
PDF_BYTES_PER_TOKEN = 5
# The dearest reading of a body: no tokeniser makes more than one token of two bytes of JSON, on the whole.
CEILING_BYTES_PER_TOKEN = 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens of a request's input: likely, and at most; and whether it asks for cache writes, and how long ones."""

    likely: int
    ceiling: int
    writes: bool
    hour_writes: bool

    def ceiling_cost(self, max_tokens: int, price: ModelPrice) -> Decimal:
        """USD that the call may cost at most, as far as can be seen."""
        rates = price.at(self.ceiling)
        rate = rates.cache_write_1h if self.hour_writes else rates.cache_write_5m if self.writes else rates.input
        return (max(rate, rates.input) * self.ceiling + rates.output * max_tokens).scaleb(-6)

    def likely_cost(self, price: ModelPrice) -> Decimal:
        """USD that its input is likely to cost."""
        return (price.at(self.likely).input * self.likely).scaleb(-6)


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
