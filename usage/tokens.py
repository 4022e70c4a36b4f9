"""Token counts of a call, in the categories that providers bill for."""

from __future__ import annotations

import msgspec

# The highest output rate of a model, in tokens per second. Estimates of interrupted calls assume it.
TOKENS_PER_SECOND = 100


# A struct, because each call makes several: a frozen dataclass takes ten times as long.
class TokenCounts(msgspec.Struct, frozen=True, gc=False):
    """The counts of a call or of one iteration. Output includes thinking; the other categories don't overlap."""

    input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_5m_input_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0
    web_search_requests: int = 0

    @property
    def prompt_tokens(self) -> int:
        """All tokens that the model read; price tiers depend on this number."""
        return (
            self.input_tokens
            + self.cache_read_input_tokens
            + self.cache_creation_5m_input_tokens
            + self.cache_creation_1h_input_tokens
        )

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.thinking_tokens + other.thinking_tokens,
            self.cache_read_input_tokens + other.cache_read_input_tokens,
            self.cache_creation_5m_input_tokens + other.cache_creation_5m_input_tokens,
            self.cache_creation_1h_input_tokens + other.cache_creation_1h_input_tokens,
            self.web_search_requests + other.web_search_requests,
        )


TOKEN_COLUMNS = TokenCounts.__struct_fields__
